/* A stand-in for NVIDIA's driver: host memory, and kernels that are told to a callback.

   Work of a stream is done when it is synchronized, so that a missing synchronization shows, and
   arrays that were freed or changed too early. New memory is garbage. Every call checks that a context is current where the driver needs one.
   With -DREAL_HEADER the prototypes are checked against <cuda.h>; with
   -D__CUDA_API_VERSION_INTERNAL too, those of first versions where later ones are the default. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef REAL_HEADER
#include <cuda.h>
#undef cuGraphAddKernelNode /* not its second version */
typedef CUDA_KERNEL_NODE_PARAMS_v1 NodeParameters;
#else
typedef int CUresult, CUdevice, CUjit_option, CUdevice_attribute, CUfunction_attribute;
typedef unsigned long long CUdeviceptr;
typedef struct CUctx_st *CUcontext;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUstream_st *CUstream;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphNode_st *CUgraphNode;
typedef struct CUgraphExec_st *CUgraphExec;
typedef struct CUevent_st *CUevent;
typedef struct {
    CUfunction func;
    unsigned gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ, sharedMemBytes;
    void **kernelParams, **extra;
} NodeParameters;
#define CUDAAPI
#define CU_LAUNCH_PARAM_BUFFER_POINTER ((void *)1)
#define CU_LAUNCH_PARAM_BUFFER_SIZE ((void *)2)
#endif

enum { OK, BAD_VALUE = 1, NO_CONTEXT = 201, BAD_PTX = 218, NOT_FOUND = 500 };
enum { MEMORY, MODULES, STREAMS, GRAPHS, EXECUTABLES, EVENTS, CONTEXTS, KINDS };
enum { MOST = 4096, MOST_BYTES = 1 << 28 };

typedef void (*Kernel)(const char *name, const void *arguments, size_t n, const unsigned *sizes);

struct CUfunc_st { char name[256]; };
struct CUmod_st { char *text; struct CUfunc_st function; };
struct CUgraphNode_st {
    CUfunction function;
    unsigned sizes[6];
    size_t n_arguments, n_before;
    unsigned char arguments[256];
    struct CUgraphNode_st *before[64], *next;
    int is_done;
};
struct CUgraph_st { struct CUgraphNode_st *first, *last; };
struct Work {
    int kind; /* 0 copy, 1 set, 2 graph */
    void *target, *source;
    unsigned char value;
    size_t n;
} queue[MOST];

static int n_queued, n_inside, live[KINDS], failure, failure_status;
static char failing[64];
static size_t used;
static Kernel kernel;
static struct { void *at; size_t n; } pieces[MOST];

/* What tests call. */
void fake_kernel(Kernel callback) { kernel = callback; }
int fake_live(int kind) { return live[kind]; }
void fake_fail(const char *function, int status, int calls) {
    snprintf(failing, sizeof failing, "%s", function);
    failure_status = status;
    failure = calls;
}

void fake_reset(void) {
    memset(live, 0, sizeof live);
    memset(pieces, 0, sizeof pieces);
    used = n_queued = n_inside = 0;
}

static int fails(const char *name) {
    if (strcmp(name, failing) || failure-- > 0) return OK;
    failing[0] = 0;
    return failure_status;
}
#define BEGIN do { int status = fails(__func__); if (status) return status; } while (0)
#define INSIDE do { BEGIN; if (!n_inside) return NO_CONTEXT; } while (0)

static int is_inside(CUdeviceptr at, size_t n) {
    for (int i = 0; i < MOST; i++) {
        uintptr_t start = (uintptr_t)pieces[i].at;
        if (pieces[i].at && at >= start && at + n <= start + pieces[i].n) return 1;
    }
    return 0;
}

static int add_work(int kind, void *target, void *source, unsigned char value, size_t n) {
    if (n_queued == MOST) return BAD_VALUE;
    queue[n_queued++] = (struct Work){kind, target, source, value, n};
    return OK;
}

static int run_graph(CUgraph graph) {
    for (struct CUgraphNode_st *node = graph->first; node; node = node->next) node->is_done = 0;
    for (struct CUgraphNode_st *node = graph->first; node; node = node->next) {
        for (size_t i = 0; i < node->n_before; i++)
            if (!node->before[i]->is_done) return BAD_VALUE;
        if (kernel) kernel(node->function->name, node->arguments, node->n_arguments, node->sizes);
        node->is_done = 1;
    }
    return OK;
}
static int finish(void) {
    int status = OK;
    for (int i = 0; i < n_queued && !status; i++) {
        struct Work *work = &queue[i];
        if (work->kind == 0) memcpy(work->target, work->source, work->n);
        if (work->kind == 1) memset(work->target, work->value, work->n);
        if (work->kind == 2) status = run_graph(work->target);
    }
    n_queued = 0;
    return status;
}

CUresult CUDAAPI cuInit(unsigned flags) { BEGIN; return flags ? BAD_VALUE : OK; }
CUresult CUDAAPI cuGetErrorName(CUresult status, const char **out) {
    *out = status == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : status == 100 ? "CUDA_ERROR_NO_DEVICE"
         : status == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : status == 218 ? "CUDA_ERROR_INVALID_PTX"
         : "CUDA_ERROR_OTHER";
    return OK;
}
CUresult CUDAAPI cuGetErrorString(CUresult status, const char **out) {
    *out = status == 700 ? "an illegal memory access was encountered" : "what happened";
    return OK;
}
CUresult CUDAAPI cuDeviceGetCount(int *out) { BEGIN; *out = 2; return OK; }
CUresult CUDAAPI cuDeviceGet(CUdevice *out, int ordinal) { BEGIN; *out = 10 + ordinal; return OK; }
CUresult CUDAAPI cuDeviceGetName(char *out, int n, CUdevice device) {
    BEGIN;
    snprintf(out, n, device == 10 ? "Small GPU" : "Big GPU");
    return OK;
}
CUresult CUDAAPI cuDeviceGetAttribute(int *out, CUdevice_attribute attribute, CUdevice device) {
    BEGIN;
    *out = (int)attribute == 75 ? 9 : (int)attribute == 76 ? device - 10
        : (int)attribute == 16 ? 100 + device : -1;
    return OK;
}
CUresult CUDAAPI cuDeviceTotalMem_v2(size_t *out, CUdevice device) {
    BEGIN;
    *out = device >= 10 ? MOST_BYTES : 0;
    return OK;
}
CUresult CUDAAPI cuDevicePrimaryCtxRetain(CUcontext *out, CUdevice device) {
    BEGIN;
    live[CONTEXTS]++;
    *out = (CUcontext)(uintptr_t)(1000 + device);
    return OK;
}
CUresult CUDAAPI cuDevicePrimaryCtxRelease_v2(CUdevice device) {
    BEGIN;
    live[CONTEXTS]--;
    return device >= 10 ? OK : BAD_VALUE;
}
CUresult CUDAAPI cuCtxPushCurrent_v2(CUcontext context) {
    BEGIN;
    n_inside++;
    return (uintptr_t)context >= 1010 ? OK : BAD_VALUE;
}
CUresult CUDAAPI cuCtxPopCurrent_v2(CUcontext *out) { INSIDE; n_inside--; *out = NULL; return OK; }

CUresult CUDAAPI cuMemGetInfo_v2(size_t *available, size_t *total) {
    INSIDE;
    *available = MOST_BYTES - used;
    *total = MOST_BYTES;
    return OK;
}
CUresult CUDAAPI cuMemAlloc_v2(CUdeviceptr *out, size_t n) {
    INSIDE;
    if (used + n > MOST_BYTES) return 2;
    for (int i = 0; i < MOST; i++) {
        if (pieces[i].at) continue;
        void *at = aligned_alloc(256, (n + 255) / 256 * 256);
        memset(at, 0xAB, n);
        pieces[i].at = at;
        pieces[i].n = n;
        used += n;
        live[MEMORY]++;
        *out = (uintptr_t)at;
        return OK;
    }
    return 2;
}
CUresult CUDAAPI cuMemFree_v2(CUdeviceptr at) {
    INSIDE;
    if (finish()) return BAD_VALUE; /* as the driver waits here */
    for (int i = 0; i < MOST; i++) {
        if (!at || (uintptr_t)pieces[i].at != at) continue;
        free(pieces[i].at);
        pieces[i].at = NULL;
        used -= pieces[i].n;
        live[MEMORY]--;
        return OK;
    }
    return BAD_VALUE;
}
CUresult CUDAAPI cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t n, CUstream s) {
    INSIDE;
    if (!s || !is_inside(to, n)) return BAD_VALUE;
    return add_work(0, (void *)(uintptr_t)to, (void *)from, 0, n);
}
CUresult CUDAAPI cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t n, CUstream s) {
    INSIDE;
    if (!s || !is_inside(from, n)) return BAD_VALUE;
    return add_work(0, to, (void *)(uintptr_t)from, 0, n);
}
CUresult CUDAAPI cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t n, CUstream s) {
    INSIDE;
    if (!s || !is_inside(to, n) || !is_inside(from, n)) return BAD_VALUE;
    return add_work(0, (void *)(uintptr_t)to, (void *)(uintptr_t)from, 0, n);
}
CUresult CUDAAPI cuMemsetD8Async(CUdeviceptr at, unsigned char value, size_t n, CUstream s) {
    INSIDE;
    if (!s || !is_inside(at, n)) return BAD_VALUE;
    return add_work(1, (void *)(uintptr_t)at, NULL, value, n);
}

CUresult CUDAAPI cuModuleLoadDataEx(CUmodule *out, const void *image, unsigned n,
                                    CUjit_option *options, void **values) {
    INSIDE;
    const char *entry = strstr(image, ".entry ");
    if (n != 2 || options[0] != 5 || options[1] != 6) return BAD_VALUE;
    if (!entry || strstr(image, "broken")) {
        snprintf(values[0], (size_t)values[1], "ptxas : line 1: broken");
        return BAD_PTX;
    }
    CUmodule module = calloc(1, sizeof *module);
    size_t length = strcspn(entry + 7, "(");
    memcpy(module->function.name, entry + 7, length < 255 ? length : 255);
    live[MODULES]++;
    *out = module;
    return OK;
}
CUresult CUDAAPI cuModuleUnload(CUmodule module) { INSIDE; free(module); live[MODULES]--; return OK; }
CUresult CUDAAPI cuModuleGetFunction(CUfunction *out, CUmodule module, const char *name) {
    INSIDE;
    *out = &module->function;
    return strcmp(name, module->function.name) ? NOT_FOUND : OK;
}
CUresult CUDAAPI cuFuncGetAttribute(int *out, CUfunction_attribute attribute, CUfunction function) {
    INSIDE;
    *out = (int)attribute == 4 ? 32 : 0;
    return function ? OK : BAD_VALUE;
}

CUresult CUDAAPI cuStreamCreate(CUstream *out, unsigned flags) {
    INSIDE;
    live[STREAMS]++;
    *out = (CUstream)(uintptr_t)77;
    return flags == 1 ? OK : BAD_VALUE;
}
CUresult CUDAAPI cuStreamDestroy_v2(CUstream s) { INSIDE; live[STREAMS]--; return s ? OK : BAD_VALUE; }
CUresult CUDAAPI cuStreamSynchronize(CUstream s) { INSIDE; return s ? finish() : BAD_VALUE; }

CUresult CUDAAPI cuGraphCreate(CUgraph *out, unsigned flags) {
    INSIDE;
    live[GRAPHS]++;
    *out = calloc(1, sizeof **out);
    return flags ? BAD_VALUE : OK;
}
CUresult CUDAAPI cuGraphAddKernelNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *before,
                                      size_t n_before, const NodeParameters *p) {
    INSIDE;
    void **extra = p->extra;
    if (p->kernelParams || p->sharedMemBytes || n_before > 64 || !extra
        || extra[0] != CU_LAUNCH_PARAM_BUFFER_POINTER || extra[2] != CU_LAUNCH_PARAM_BUFFER_SIZE
        || extra[4] || !p->gridDimX || !p->gridDimY || !p->gridDimZ || !p->func) return BAD_VALUE;
    struct CUgraphNode_st *node = calloc(1, sizeof *node);
    unsigned sizes[] = {p->gridDimX, p->gridDimY, p->gridDimZ,
                        p->blockDimX, p->blockDimY, p->blockDimZ};
    memcpy(node->sizes, sizes, sizeof sizes);
    node->function = p->func;
    node->n_arguments = *(size_t *)extra[3];
    if (node->n_arguments > sizeof node->arguments) return BAD_VALUE;
    memcpy(node->arguments, extra[1], node->n_arguments);
    node->n_before = n_before;
    for (size_t i = 0; i < n_before; i++) node->before[i] = before[i];
    if (graph->last) graph->last->next = node; else graph->first = node;
    graph->last = node;
    *out = node;
    return OK;
}
CUresult CUDAAPI cuGraphInstantiateWithFlags(CUgraphExec *out, CUgraph graph,
                                             unsigned long long flags) {
    INSIDE;
    live[EXECUTABLES]++;
    *out = (CUgraphExec)graph;
    return flags ? BAD_VALUE : OK;
}
CUresult CUDAAPI cuGraphLaunch(CUgraphExec graph, CUstream s) {
    INSIDE;
    return s ? add_work(2, graph, NULL, 0, 0) : BAD_VALUE;
}
CUresult CUDAAPI cuGraphExecDestroy(CUgraphExec graph) {
    INSIDE;
    live[EXECUTABLES]--;
    return graph ? OK : BAD_VALUE;
}
CUresult CUDAAPI cuGraphDestroy(CUgraph graph) {
    INSIDE;
    for (struct CUgraphNode_st *node = graph->first, *next; node; node = next) {
        next = node->next;
        free(node);
    }
    free(graph);
    live[GRAPHS]--;
    return OK;
}

CUresult CUDAAPI cuEventCreate(CUevent *out, unsigned flags) {
    INSIDE;
    *out = (CUevent)(uintptr_t)++live[EVENTS];
    return flags ? BAD_VALUE : OK;
}
CUresult CUDAAPI cuEventRecord(CUevent event, CUstream s) { INSIDE; return event && s ? OK : BAD_VALUE; }
CUresult CUDAAPI cuEventElapsedTime(float *out, CUevent start, CUevent end) {
    INSIDE;
    *out = 1.5f;
    return start && end && !n_queued ? OK : BAD_VALUE;
}
CUresult CUDAAPI cuEventDestroy_v2(CUevent event) { INSIDE; live[EVENTS]--; return event ? OK : BAD_VALUE; }
