/* Metal's objects: one device, whose kernels are compiled and run by this machine. Buffers have two
 * addresses, one for the host and one for kernels; the latter is open only while commands that
 * declare the buffer run. Commands run when they are waited for, and those between two barriers in
 * the reverse order. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "standin.h"

#define PAGE 4096ul
#define BINDINGS 31
#define MOST_BYTES 4096         /* of setBytes */
#define MOST_SHARED 32768       /* bytes of a workgroup's memory */
#define SHARED_UNTRACKED 0x100
enum { NEW, COMMITTED = 2, COMPLETED = 4, FAILED };

typedef struct { Object object; } Device;
typedef struct { Object object; int updates; } Fence;
typedef struct { Object object; char *host, *device; size_t mapped, shift; } Buffer;
typedef struct { Object object; bool fast_math; unsigned long language; } Options;
typedef struct { Object object; void *code; } Library;
typedef struct { Object object; Library *library; char name[64]; } Function;

typedef struct {
    Object object;
    Library *library;
    Kernel kernel;
    const unsigned *sizes;      /* bytes that each binding needs; 0 ends */
    char name[64];
} Pipeline;

typedef struct Queue { Object object; struct Commands *first, *last; int updates; } Queue;

typedef struct Step {
    struct Step *next;
    Pipeline *pipeline;
    Size groups, threads;
    int wave;                   /* barriers before it */
    void *bindings[BINDINGS];   /* copies of their bytes */
} Step;

typedef struct Commands {
    Object object;
    struct Commands *next;
    Queue *queue;
    struct Encoder *encoder;
    int status;
    char reason[512];
} Commands;

typedef struct Encoder {
    Object object;
    Commands *commands;
    bool ended, concurrent;
    int wave, waits_for, update; /* numbers of updates of a fence */
    Pipeline *pipeline;
    Step *last;                 /* of the steps, linked backwards */
    char bytes[BINDINGS][MOST_BYTES];
    size_t sizes[BINDINGS];
    Buffer **used;
    size_t n_used;
} Encoder;

static pthread_mutex_t running = PTHREAD_MUTEX_INITIALIZER;

/* --- device --- */

static Class device_class, fence_class, queue_class, buffer_class, options_class, library_class;
static Class function_class, pipeline_class, commands_class, encoder_class;

EXPORT void *MTLCreateSystemDefaultDevice(void) { return make(&device_class); }

EXPORT void *MTLCopyAllDevices(void) {
    void *device = make(&device_class), *all = array(&device, 1);
    release(device);
    return all;
}

static void *name_of(SELF(Device)) { UNUSED; return string("Metal stand-in"); }
static unsigned long longest_buffer(SELF(Device)) { UNUSED; return 1ul << 34; }
static void *new_fence(SELF(Device)) { UNUSED; return make(&fence_class); }
static void *new_queue(SELF(Device)) { UNUSED; return make(&queue_class); }

static bool supports(SELF(Device), long family) {
    UNUSED;
    return family == 5001 && !getenv("METAL_STANDIN_IS_OLD");
}

/* --- memory --- */

static void *new_buffer(SELF(Device), size_t size, unsigned long options) {
    UNUSED;
    if (options != SHARED_UNTRACKED) fail("newBuffer: options %#lx", options);
    if (!size || size > 1ul << 34) return NULL;
    size_t mapped = (size + PAGE - 1) / PAGE * PAGE;
    int file = memfd_create("buffer", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, (off_t)mapped)) fail("no memory: %s", strerror(errno));
    char *host = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    char *area = mmap(NULL, mapped + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (host == MAP_FAILED || area == MAP_FAILED) fail("no memory: %s", strerror(errno));
    char *address = mmap(area + PAGE, mapped, PROT_NONE, MAP_SHARED | MAP_FIXED, file, 0);
    if (address == MAP_FAILED) fail("no memory: %s", strerror(errno));
    close(file);
    memset(host, 0xa5, mapped);
    Buffer *made = make(&buffer_class);
    made->host = host, made->device = address, made->mapped = mapped;
    made->shift = (mapped - size) / 16 * 16; /* the end is where the memory ends */
    return made;
}

static void *contents(SELF(Buffer)) { UNUSED; return self->host + self->shift; }

static uint64_t gpu_address(SELF(Buffer)) {
    UNUSED;
    return (uint64_t)(uintptr_t)(self->device + self->shift);
}

static void free_buffer(void *pointer) {
    Buffer *self = pointer;
    munmap(self->host, self->mapped);
    munmap(self->device - PAGE, self->mapped + 2 * PAGE);
}

static void open_buffers(const Encoder *e, int protection) {
    for (size_t i = 0; i < e->n_used; i++)
        mprotect(e->used[i]->device, e->used[i]->mapped, protection);
}

/* --- kernels --- */

static void set_fast_math(SELF(Options), bool fast) { UNUSED; self->fast_math = fast; }
static void set_language(SELF(Options), unsigned long l) { UNUSED; self->language = l; }

/* A name for a text. */
static void digest(const char *text, char *out) {
    uint64_t a = 0xcbf29ce484222325, b = 0x84222325cbf29ce4;
    for (; *text; text++) {
        a = (a ^ (unsigned char)*text) * 0x100000001b3;
        b = (b + (unsigned char)*text) * 0x9e3779b97f4a7c15;
        b ^= b >> 29;
    }
    sprintf(out, "%016lx%016lx", (unsigned long)a, (unsigned long)b);
}

/* What a command prints: true if it ends well. */
static bool output_of(const char *command, char *out, size_t size) {
    FILE *pipe = popen(command, "r");
    if (!pipe) fail("no shell");
    size_t used = fread(out, 1, size - 1, pipe);
    out[used] = 0;
    while (fgetc(pipe) != EOF) {}
    return pclose(pipe) == 0;
}

/* The library of a kernel, which stays in FOLDER; NULL with the compiler's message. */
static void *compiled(const char *text, char *reason, size_t size) {
    char name[33], path[1024], source[1100], command[4096];
    digest(text, name);
    snprintf(path, sizeof path, FOLDER "/%s.so", name);
    if (!access(path, R_OK)) return dlopen(path, RTLD_NOW | RTLD_LOCAL);
    snprintf(source, sizeof source, FOLDER "/%s.%d", name, (int)getpid());
    FILE *file = fopen(source, "w");
    if (!file || fputs(text, file) == EOF || fclose(file)) fail("%s cannot be written", source);
    snprintf(command, sizeof command, COMPILER " %s %s 2>&1", source, path);
    bool right = output_of(command, reason, size);
    unlink(source);
    return right ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
}

static void *new_library(SELF(Device), void *source, Options *options, void **error_out) {
    UNUSED;
    char reason[2048] = "the compiler's library does not load";
    expect(options, &options_class, "newLibraryWithSource");
    if (options->fast_math) fail("kernels want exact functions, fast ones were asked for");
    if (options->language != 0x30000) fail("language version %#lx", options->language);
    void *code = compiled(characters(source), reason, sizeof reason);
    if (!code) {
        if (error_out) *error_out = error(reason);
        return NULL;
    }
    Library *library = make(&library_class);
    library->code = code;
    return library;
}

static void free_library(void *self) { dlclose(((Library *)self)->code); }

static void *new_function(SELF(Library), void *name) {
    UNUSED;
    char symbol[128];
    snprintf(symbol, sizeof symbol, "standin_run_%s", characters(name));
    if (!dlsym(self->code, symbol)) return NULL;
    Function *made = make(&function_class);
    made->library = retain(self);
    snprintf(made->name, sizeof made->name, "%s", characters(name));
    return made;
}

static void free_function(void *self) { release(((Function *)self)->library); }

static void *symbol_of(const Library *library, const char *prefix, const char *name) {
    char symbol[128];
    snprintf(symbol, sizeof symbol, "standin_%s_%s", prefix, name);
    void *found = dlsym(library->code, symbol);
    if (!found) fail("compiled code lacks %s", symbol);
    return found;
}

static void *new_pipeline(SELF(Device), Function *function, void **error_out) {
    UNUSED;
    expect(function, &function_class, "newComputePipelineState");
    const Library *library = function->library;
    Pipeline *made = make(&pipeline_class);
    made->library = retain(function->library);
    *(void **)&made->kernel.run = symbol_of(library, "run", function->name);
    made->kernel.barrier = symbol_of(library, "barrier", function->name);
    made->kernel.waits = *(bool *)symbol_of(library, "waits", function->name);
    char **shared = symbol_of(library, "shared", function->name);
    made->kernel.shared = shared[0], made->kernel.shared_end = shared[1];
    made->sizes = symbol_of(library, "sizes", function->name);
    snprintf(made->name, sizeof made->name, "%s", function->name);
    if (shared[1] - shared[0] <= MOST_SHARED) return made;
    if (error_out) *error_out = error("threadgroup memory exceeds 32768 bytes");
    release(made);
    return NULL;
}

static unsigned long most_threads(SELF(Pipeline)) { UNUSED; return 1024; }
static void free_pipeline(void *self) { release(((Pipeline *)self)->library); }

/* --- commands --- */

static void *command_buffer(SELF(Queue)) {
    UNUSED;
    Commands *made = make(&commands_class);
    made->queue = retain(self);
    return autorelease(made);
}

static void free_commands(void *pointer) {
    Commands *self = pointer;
    release(self->encoder);
    release(self->queue);
}

static void *new_encoder(SELF(Commands), unsigned long type) {
    UNUSED;
    if (self->status != NEW) fail("an encoder of commands that were committed");
    if (self->encoder) fail("a second encoder of the same commands");
    Encoder *made = make(&encoder_class);
    made->concurrent = type == 1;
    made->commands = self;
    self->encoder = retain(made);
    return autorelease(made);
}

static void free_encoder(void *pointer) {
    Encoder *self = pointer;
    if (!self->ended) fail("an encoder goes away before endEncoding");
    for (Step *step = self->last, *next; step; step = next) {
        next = step->next;
        release(step->pipeline);
        for (int i = 0; i < BINDINGS; i++) free(step->bindings[i]);
        free(step);
    }
    for (size_t i = 0; i < self->n_used; i++) release(self->used[i]);
    free(self->used);
    release(self->pipeline);
}

static void open_still(const Encoder *e, const char *selector) {
    if (e->ended) fail("%s after endEncoding", selector);
}

static void set_pipeline(SELF(Encoder), Pipeline *pipeline) {
    open_still(self, selector);
    expect(pipeline, &pipeline_class, selector);
    retain(pipeline);
    release(self->pipeline);
    self->pipeline = pipeline;
}

static void set_bytes(SELF(Encoder), const void *bytes, size_t size, unsigned long index) {
    open_still(self, selector);
    if (index >= BINDINGS) fail("%s index %lu", selector, index);
    if (!size || size > MOST_BYTES) fail("%s %zu bytes, of 1 to %d", selector, size, MOST_BYTES);
    memcpy(self->bytes[index], bytes, size);
    self->sizes[index] = size;
}

static void use_resources(SELF(Encoder), Buffer *const *buffers, size_t count,
                          unsigned long usage) {
    open_still(self, selector);
    if (usage != 3) fail("%s usage %lu does not say that kernels read and write", selector, usage);
    self->used = realloc(self->used, (self->n_used + count) * sizeof *self->used);
    if (count && !self->used) fail("out of memory");
    for (size_t i = 0; i < count; i++) {
        expect(buffers[i], &buffer_class, selector);
        self->used[self->n_used++] = retain(buffers[i]);
    }
}

static void wait_fence(SELF(Encoder), Fence *fence) {
    open_still(self, selector);
    expect(fence, &fence_class, selector);
    self->waits_for = fence->updates;
}

static void update_fence(SELF(Encoder), Fence *fence) {
    open_still(self, selector);
    expect(fence, &fence_class, selector);
    fence->updates = self->update = ++self->commands->queue->updates;
}

static void memory_barrier(SELF(Encoder), unsigned long scope) {
    open_still(self, selector);
    if (scope != 1) fail("%s %lu is not that of buffers", selector, scope);
    self->wave++;
}

static void dispatch(SELF(Encoder), Size groups, Size threads) {
    open_still(self, selector);
    const Pipeline *pipeline = self->pipeline;
    if (!pipeline) fail("%s without a pipeline", selector);
    if (!groups.width || !groups.height || !groups.depth) fail("%s: an empty grid", selector);
    size_t count = threads.width * threads.height * threads.depth;
    if (!count || count > 1024) fail("%s: %zu threads of a workgroup", selector, count);
    Step *step = calloc(1, sizeof *step);
    if (!step) fail("out of memory");
    for (int i = 0; pipeline->sizes[i]; i++) {
        if (self->sizes[i] < pipeline->sizes[i])
            fail("%s: binding %d of %s has %zu of %u bytes", selector, i, pipeline->name,
                 self->sizes[i], pipeline->sizes[i]);
        step->bindings[i] = malloc(self->sizes[i]);
        if (!step->bindings[i]) fail("out of memory");
        memcpy(step->bindings[i], self->bytes[i], self->sizes[i]);
    }
    step->next = self->last, step->pipeline = retain(self->pipeline);
    step->groups = groups, step->threads = threads, step->wave = self->wave;
    if (!self->concurrent) self->wave++;
    self->last = step;
}

static void end_encoding(SELF(Encoder)) {
    open_still(self, selector);
    self->ended = true;
}

static void commit(SELF(Commands)) {
    UNUSED;
    Queue *queue = self->queue;
    if (self->status != NEW) fail("commands are committed twice");
    if (self->encoder && !self->encoder->ended) fail("commit before endEncoding");
    const Encoder *own = self->encoder, *before = queue->last ? queue->last->encoder : NULL;
    if (own && before && (!before->update || own->waits_for < before->update))
        fail("commands do not wait for those before them");
    self->status = COMMITTED;
    if (queue->last) queue->last->next = self;
    else queue->first = self;
    queue->last = retain(self);
}

/* Steps of a wave, the last one first: they stand in a list that begins at the end. */
static bool run_wave(const Encoder *e, int wave, char *reason, size_t size) {
    for (const Step *step = e->last; step; step = step->next) {
        const Kernel *kernel = &step->pipeline->kernel;
        if (step->wave == wave &&
            !run_grid(kernel, step->bindings, step->groups, step->threads, reason, size))
            return false;
    }
    return true;
}

static void run(Commands *c) {
    bool right = true;
    pthread_mutex_lock(&running);
    if (c->encoder) {
        open_buffers(c->encoder, PROT_READ | PROT_WRITE);
        for (int wave = 0; right && wave <= c->encoder->wave; wave++)
            right = run_wave(c->encoder, wave, c->reason, sizeof c->reason);
        open_buffers(c->encoder, PROT_NONE);
    }
    pthread_mutex_unlock(&running);
    c->status = right ? COMPLETED : FAILED;
}

static void wait(SELF(Commands)) {
    UNUSED;
    Queue *queue = self->queue;
    if (self->status == NEW) fail("waitUntilCompleted before commit");
    while (self->status == COMMITTED) {
        Commands *first = queue->first;
        run(first);
        queue->first = first->next;
        if (!queue->first) queue->last = NULL;
        release(first);
    }
}

static unsigned long status(SELF(Commands)) { UNUSED; return (unsigned long)self->status; }

static void *error_of(SELF(Commands)) {
    UNUSED;
    return self->status == FAILED ? error(self->reason) : NULL;
}

/* --- classes --- */

static CLASS(device_class, "MTLDevice", Device, {"name", name_of}, {"supportsFamily:", supports},
             {"maxBufferLength", longest_buffer}, {"newCommandQueue", new_queue},
             {"newFence", new_fence}, {"newBufferWithLength:options:", new_buffer},
             {"newLibraryWithSource:options:error:", new_library},
             {"newComputePipelineStateWithFunction:error:", new_pipeline});
static CLASS(fence_class, "MTLFence", Fence, {0});
static CLASS(queue_class, "MTLCommandQueue", Queue, {"commandBuffer", command_buffer});
static CLASS(buffer_class, "MTLBuffer", Buffer, {"contents", contents},
             {"gpuAddress", gpu_address});
static CLASS(options_class, "MTLCompileOptions", Options, {"setFastMathEnabled:", set_fast_math},
             {"setLanguageVersion:", set_language});
static CLASS(library_class, "MTLLibrary", Library, {"newFunctionWithName:", new_function});
static CLASS(function_class, "MTLFunction", Function, {0});
static CLASS(pipeline_class, "MTLComputePipelineState", Pipeline,
             {"maxTotalThreadsPerThreadgroup", most_threads});
static CLASS(commands_class, "MTLCommandBuffer", Commands,
             {"computeCommandEncoderWithDispatchType:", new_encoder}, {"commit", commit},
             {"waitUntilCompleted", wait}, {"status", status}, {"error", error_of});
static CLASS(encoder_class, "MTLComputeCommandEncoder", Encoder,
             {"setComputePipelineState:", set_pipeline}, {"setBytes:length:atIndex:", set_bytes},
             {"useResources:count:usage:", use_resources}, {"waitForFence:", wait_fence},
             {"updateFence:", update_fence}, {"memoryBarrierWithScope:", memory_barrier},
             {"dispatchThreadgroups:threadsPerThreadgroup:", dispatch},
             {"endEncoding", end_encoding});

__attribute__((constructor)) static void add_classes(void) {
    buffer_class.dealloc = free_buffer;
    library_class.dealloc = free_library;
    function_class.dealloc = free_function;
    pipeline_class.dealloc = free_pipeline;
    commands_class.dealloc = free_commands;
    encoder_class.dealloc = free_encoder;
    Class *all[] = {&device_class, &fence_class, &queue_class, &buffer_class, &options_class,
                    &library_class, &function_class, &pipeline_class, &commands_class,
                    &encoder_class};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) add_class(all[i]);
}
