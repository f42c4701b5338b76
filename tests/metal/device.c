/* Metal's device, which is this machine, and its memory. Buffers have two addresses, one for the
 * host and one for kernels; the latter is open only while commands that declare the buffer run. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "metal.h"

#define PAGE 4096ul
#define MOST_BYTES (1ul << 34)  /* of a buffer */
#define SHARED_UNTRACKED 0x100

static Class device_class;
static size_t n_allocated;      /* bytes of buffers */

EXPORT void *MTLCreateSystemDefaultDevice(void) { return make(&device_class); }

EXPORT void *MTLCopyAllDevices(void) {
    void *device = make(&device_class), *all = array(&device, 1);
    release(device);
    return all;
}

static void *name_of(SELF(Device)) { UNUSED; return string("Metal stand-in"); }
static unsigned long longest_buffer(SELF(Device)) { UNUSED; return MOST_BYTES; }
static uint64_t working_set(SELF(Device)) { UNUSED; return MOST_BYTES; }
static unsigned long allocated(SELF(Device)) { UNUSED; return __atomic_load_n(&n_allocated, __ATOMIC_RELAXED); }
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
    if (!size || size > MOST_BYTES) return NULL;
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
    __atomic_fetch_add(&n_allocated, mapped, __ATOMIC_RELAXED);
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
    __atomic_fetch_sub(&n_allocated, self->mapped, __ATOMIC_RELAXED);
    munmap(self->host, self->mapped);
    /* Its addresses are never given to anything else, so that late use of them is seen. */
    mmap(self->device, self->mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

/* --- classes --- */

static CLASS(device_class, "MTLDevice", Device, {"name", name_of}, {"supportsFamily:", supports},
             {"maxBufferLength", longest_buffer}, {"recommendedMaxWorkingSetSize", working_set},
             {"currentAllocatedSize", allocated}, {"newCommandQueue", new_queue},
             {"newFence", new_fence}, {"newBufferWithLength:options:", new_buffer},
             {"newLibraryWithSource:options:error:", new_library},
             {"newComputePipelineStateWithFunction:error:", new_pipeline});
CLASS(fence_class, "MTLFence", Fence, {0});
CLASS(queue_class, "MTLCommandQueue", Queue, {"commandBuffer", command_buffer});
CLASS(buffer_class, "MTLBuffer", Buffer, {"contents", contents}, {"gpuAddress", gpu_address});

__attribute__((constructor)) static void add_classes(void) {
    buffer_class.dealloc = free_buffer;
    add_class(&device_class);
    add_class(&fence_class);
    add_class(&queue_class);
    add_class(&buffer_class);
}
