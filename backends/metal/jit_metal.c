/* Metal for compute, through the Objective-C runtime: devices, memory, pipelines, recorded runs.
 *
 * The functions are those of vulkan/jit_vulkan.c. No SDK, no Objective-C compiler and no link
 * dependency: libobjc and Metal are opened at run time, and every message is a call of objc_msgSend
 * with the prototype of its method. Kernels reach memory by address, which Metal has since macOS
 * 13; a dispatch has one block of arguments. Functions return 0, or -1 with the reason in jm_error.
 * A device is used by one thread at a time. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "metal_types.h"

#define EXPORT __attribute__((visibility("default")))
#define ARGUMENT_BYTES 128
#define STEPS_AT_ONCE 64        /* dispatches of a command buffer; macOS stops very long ones */

typedef struct {
    id buffer;
    uint64_t size, address;
    char *contents;
    size_t place;               /* among the device's buffers */
} jm_buffer;

typedef struct {
    id state;
    MTLSize threads;            /* of a workgroup */
} jm_pipe;

typedef struct {
    jm_pipe *pipe;
    bool barrier;               /* before it */
    MTLSize groups;
    char arguments[ARGUMENT_BYTES];
} jm_step;

typedef struct {
    jm_step *steps;
    size_t count, room;
    bool barrier, full;         /* full: there was no memory for a step */
} jm_commands;

typedef struct {
    char error[512], name[256];
    void *objc, *metal;
    id (*get_class)(const char *);
    SEL (*register_name)(const char *);
    void (*send)(void);
    void *(*push)(void);
    void (*pop)(void *);
#define SELECTOR(receiver, name, result, text, types) SEL name##_sel;
    MESSAGES(SELECTOR)
    id device, queue, fence;
    jm_buffer **buffers;
    id *resident;               /* their objects */
    size_t count, room;
} jm_device;

#define MESSAGE_TYPE(receiver, name, result, text, types) typedef result name##_message types;
MESSAGES(MESSAGE_TYPE)

#define SEND(name, receiver, ...) \
    (((name##_message *)d->send)((receiver), d->name##_sel, ##__VA_ARGS__))
#define FAIL(...) do { snprintf(d->error, sizeof d->error, __VA_ARGS__); return -1; } while (0)

static id string(jm_device *d, const char *text) {
    return SEND(new_string, d->get_class("NSString"), text, NSUTF8StringEncoding);
}

static const char *characters(jm_device *d, id string) {
    const char *text = string ? SEND(characters, string) : NULL;
    return text ? text : "no reason was given";
}

static const char *reason(jm_device *d, id error) {
    return characters(d, error ? SEND(description, error) : NULL);
}

static void release(jm_device *d, id object) {
    if (object) SEND(release, object);
}

/* --- devices --- */

static int load(jm_device *d) {
    const char *other = getenv("JITLLM_METAL_RUNTIME"); /* for tests without Apple's */
    if (other && !*other) other = NULL;
    if (!other)                 /* without it, programs that draw nothing get no default device */
        dlopen("/System/Library/Frameworks/CoreGraphics.framework/CoreGraphics", RTLD_NOW);
    d->objc = dlopen(other ? other : "/usr/lib/libobjc.A.dylib", RTLD_NOW | RTLD_LOCAL);
    d->metal = dlopen(other ? other : "/System/Library/Frameworks/Metal.framework/Metal",
                      RTLD_NOW | RTLD_LOCAL);
    if (!d->objc || !d->metal) {
        if (other) FAIL("JITLLM_METAL_RUNTIME: %s", dlerror());
        FAIL("this system has no Metal; macOS 13 and later have it");
    }
#define LOAD(field, symbol) do { *(void **)&d->field = dlsym(d->objc, symbol); \
    if (!d->field) FAIL("the Objective-C runtime has no " symbol); } while (0)
    LOAD(get_class, "objc_getClass");
    LOAD(register_name, "sel_registerName");
    LOAD(send, "objc_msgSend");
    LOAD(push, "objc_autoreleasePoolPush");
    LOAD(pop, "objc_autoreleasePoolPop");
#define REGISTER(receiver, name, result, text, types) d->name##_sel = d->register_name(text);
    MESSAGES(REGISTER)
    return 0;
}

/* The first device whose name contains `wanted`, or the system's choice. */
static int choose(jm_device *d, const char *wanted) {
    id (*first)(void), (*all)(void);
    *(void **)&first = dlsym(d->metal, "MTLCreateSystemDefaultDevice");
    *(void **)&all = dlsym(d->metal, "MTLCopyAllDevices");
    if (!first || !all) FAIL("Metal has no MTLCreateSystemDefaultDevice or MTLCopyAllDevices");
    if (!*wanted) {
        if (!(d->device = first())) FAIL("no Metal device on this machine");
        return 0;
    }
    id devices = all();
    NSUInteger count = devices ? SEND(count, devices) : 0;
    for (NSUInteger i = 0; i < count && !d->device; i++) {
        id each = SEND(element, devices, i);
        if (strstr(characters(d, SEND(name_of, each)), wanted)) d->device = SEND(retain, each);
    }
    release(d, devices);
    if (!d->device) FAIL("none of %lu Metal devices has %.200s in its name", count, wanted);
    return 0;
}

static int open_device(jm_device *d) {
    snprintf(d->name, sizeof d->name, "%s", characters(d, SEND(name_of, d->device)));
    if (!SEND(responds, d->device, d->supports_sel) ||
        !SEND(supports, d->device, MTLGPUFamilyMetal3))
        FAIL("%s lacks Metal 3: macOS 13 or later on an Apple GPU has it, older systems do not",
             d->name);
    d->queue = SEND(new_queue, d->device);
    d->fence = SEND(new_fence, d->device);
    if (!d->queue || !d->fence) FAIL("%s gives no command queue", d->name);
    return 0;
}

EXPORT void jm_close(jm_device *d) {
    if (!d) return;
    release(d, d->fence);
    release(d, d->queue);
    release(d, d->device);
    free(d->buffers);
    free(d->resident);
    free(d);                    /* libraries of Objective-C stay loaded */
}

/* Open a device; NULL with the reason in `error` if there is none. */
EXPORT jm_device *jm_open(const char *wanted, char *error, size_t size) {
    jm_device *d = calloc(1, sizeof *d);
    if (!d) { snprintf(error, size, "out of memory"); return NULL; }
    int failed = load(d);
    if (!failed) {
        void *pool = d->push();
        failed = choose(d, wanted) || open_device(d);
        d->pop(pool);
    }
    if (!failed) return d;
    snprintf(error, size, "%s", d->error);
    jm_close(d);
    return NULL;
}

EXPORT const char *jm_error(jm_device *d) { return d->error; }
EXPORT const char *jm_name(jm_device *d) { return d->name; }
EXPORT int jm_is_cpu(jm_device *d) { (void)d; return 0; }
EXPORT uint64_t jm_max_allocation(jm_device *d) { return SEND(longest_buffer, d->device); }

/* The bytes that the system lets kernels use, and those of them that this process does not. */
EXPORT void jm_memory(jm_device *d, uint64_t *total, uint64_t *free_bytes) {
    uint64_t used = SEND(allocated, d->device);
    *total = SEND(working_set, d->device);
    *free_bytes = *total > used ? *total - used : 0;
}

/* --- memory: the host sees all of it, and copies between runs, for which it waits --- */

static int make_room(jm_device *d) {
    if (d->count < d->room) return 0;
    size_t room = d->room ? 2 * d->room : 64;
    void *buffers = realloc(d->buffers, room * sizeof *d->buffers);
    if (buffers) d->buffers = buffers;
    void *resident = realloc(d->resident, room * sizeof *d->resident);
    if (resident) d->resident = resident;
    if (!buffers || !resident) FAIL("out of memory");
    d->room = room;
    return 0;
}

static int fill_buffer(jm_device *d, jm_buffer *b) {
    if (make_room(d)) return -1;
    b->buffer = SEND(new_buffer, d->device, b->size,
                     MTLResourceStorageModeShared | MTLResourceHazardTrackingModeUntracked);
    if (!b->buffer) FAIL("%s has no memory left", d->name);
    b->contents = SEND(contents, b->buffer);
    b->address = SEND(gpu_address, b->buffer);
    b->place = d->count++;
    d->buffers[b->place] = b;
    d->resident[b->place] = b->buffer;
    return 0;
}

/* Allocate memory; NULL on failure. `on_host` changes nothing. */
EXPORT jm_buffer *jm_alloc(jm_device *d, uint64_t size, int on_host) {
    jm_buffer *b = calloc(1, sizeof *b);
    (void)on_host;
    if (!b) { snprintf(d->error, sizeof d->error, "out of memory"); return NULL; }
    b->size = size;
    if (fill_buffer(d, b)) { free(b); return NULL; }
    return b;
}

EXPORT void jm_free(jm_device *d, jm_buffer *b) {
    size_t last = --d->count;
    d->buffers[b->place] = d->buffers[last];
    d->resident[b->place] = d->resident[last];
    d->buffers[b->place]->place = b->place;
    release(d, b->buffer);
    free(b);
}

EXPORT uint64_t jm_address(jm_buffer *b) { return b->address; }
EXPORT void *jm_mapped(jm_buffer *b) { return b->contents; }

EXPORT int jm_zero(jm_device *d, jm_buffer *b) {
    (void)d;
    memset(b->contents, 0, b->size);
    return 0;
}

EXPORT int jm_copy(jm_device *d, jm_buffer *from, uint64_t start, jm_buffer *to, uint64_t at,
                   uint64_t size) {
    (void)d;
    memcpy(to->contents + at, from->contents + start, size);
    return 0;
}

EXPORT int jm_upload(jm_device *d, jm_buffer *b, uint64_t start, const void *data, uint64_t size) {
    (void)d;
    memcpy(b->contents + start, data, size);
    return 0;
}

EXPORT int jm_download(jm_device *d, jm_buffer *b, uint64_t start, void *data, uint64_t size) {
    (void)d;
    memcpy(data, b->contents + start, size);
    return 0;
}

/* --- pipelines --- */

/* Kernel text behind the values of its constants; free it. */
static char *with_constants(const char *code, uint64_t bytes, const uint32_t *constants,
                            uint32_t count) {
    size_t room = 64 * (size_t)count + bytes + 1, used = 0;
    char *text = malloc(room);
    if (!text) return NULL;
    for (uint32_t i = 0; i < count; i++)
        used += (size_t)snprintf(text + used, room - used,
                                 "#define SPIRV_CROSS_CONSTANT_ID_%u %uu\n", i, constants[i]);
    memcpy(text + used, code, bytes);
    text[used + bytes] = 0;
    return text;
}

/* Threads of a workgroup, which the text tells. */
static int threads_of(const char *text, MTLSize *out) {
    const char *size = strstr(text, "uint3 gl_WorkGroupSize");
    size = size ? strstr(size, "= uint3(") : NULL;
    if (!size) return -1;
    int read = sscanf(size, "= uint3(%luu, %luu, %luu)", &out->width, &out->height, &out->depth);
    return read == 3 ? 0 : -1;
}

static int compile(jm_device *d, const char *text, jm_pipe *p) {
    id error = NULL, options = SEND(init, SEND(alloc, d->get_class("MTLCompileOptions")));
    SEND(set_language, options, MTLLanguageVersion3_0);
    SEND(set_fast_math, options, false);
    id library = SEND(new_library, d->device, string(d, text), options, &error);
    release(d, options);
    if (!library) FAIL("a kernel does not compile: %s", reason(d, error));
    id function = SEND(new_function, library, string(d, "main0"));
    release(d, library);
    if (!function) FAIL("a kernel has no function main0");
    p->state = SEND(new_pipeline, d->device, function, &error);
    release(d, function);
    if (!p->state) FAIL("no pipeline: %s", reason(d, error));
    NSUInteger most = SEND(most_threads, p->state);
    if (p->threads.width * p->threads.height * p->threads.depth > most)
        FAIL("%s runs at most %lu threads of a kernel together", d->name, most);
    return 0;
}

EXPORT void jm_free_pipeline(jm_device *d, jm_pipe *p) {
    release(d, p->state);
    free(p);
}

/* Make a pipeline of Metal text with specialization constants 0, 1, ... */
EXPORT int jm_pipeline(jm_device *d, const char *code, uint64_t bytes, const uint32_t *constants,
                       uint32_t count, jm_pipe **out) {
    char *text = with_constants(code, bytes, constants, count);
    jm_pipe *p = calloc(1, sizeof *p);
    int failed = -1;
    if (!text || !p) {
        snprintf(d->error, sizeof d->error, "out of memory");
    } else if (threads_of(text, &p->threads)) {
        snprintf(d->error, sizeof d->error, "a kernel does not tell the size of its workgroups");
    } else {
        void *pool = d->push();
        failed = compile(d, text, p);
        d->pop(pool);
    }
    free(text);
    if (failed && p) jm_free_pipeline(d, p);
    if (!failed) *out = p;
    return failed;
}

/* --- recorded runs: Metal uses a command buffer once, so steps are encoded at every run --- */

EXPORT int jm_begin(jm_device *d, jm_commands **out) {
    if (!(*out = calloc(1, sizeof **out))) FAIL("out of memory");
    return 0;
}

EXPORT void jm_barrier(jm_device *d, jm_commands *c) { (void)d; c->barrier = true; }

EXPORT void jm_dispatch(jm_device *d, jm_commands *c, jm_pipe *pipe, const void *arguments,
                        uint32_t bytes, uint32_t x, uint32_t y, uint32_t z) {
    (void)d;
    if (!x || !y || !z) return; /* Metal takes no empty grid */
    if (c->count == c->room) {
        size_t room = c->room ? 2 * c->room : 256;
        jm_step *steps = realloc(c->steps, room * sizeof *steps);
        if (!steps) { c->full = true; return; }
        c->steps = steps, c->room = room;
    }
    jm_step *step = &c->steps[c->count++];
    *step = (jm_step){pipe, c->barrier, {x, y, z}, {0}};
    memcpy(step->arguments, arguments, bytes);
    c->barrier = false;
}

EXPORT int jm_end(jm_device *d, jm_commands *c) {
    if (c->full) FAIL("out of memory");
    return 0;
}

EXPORT void jm_free_commands(jm_device *d, jm_commands *c) {
    (void)d;
    free(c->steps);
    free(c);
}

/* Encode steps, which run side by side except for barriers, and start them; NULL on failure. */
static id start(jm_device *d, const jm_step *steps, size_t count) {
    id commands = SEND(command_buffer, d->queue);
    id encoder = commands ? SEND(encoder, commands, MTLDispatchTypeConcurrent) : NULL;
    if (!encoder) { snprintf(d->error, sizeof d->error, "no command buffer"); return NULL; }
    SEND(wait_fence, encoder, d->fence);    /* for those started before */
    SEND(use_resources, encoder, d->resident, d->count,
         MTLResourceUsageRead | MTLResourceUsageWrite);
    for (size_t i = 0; i < count; i++) {
        if (steps[i].barrier && i) SEND(memory_barrier, encoder, MTLBarrierScopeBuffers);
        SEND(set_pipeline, encoder, steps[i].pipe->state);
        SEND(set_bytes, encoder, steps[i].arguments, ARGUMENT_BYTES, 0);
        SEND(dispatch, encoder, steps[i].groups, steps[i].pipe->threads);
    }
    SEND(update_fence, encoder, d->fence);
    SEND(end_encoding, encoder);
    SEND(commit, commands);
    return SEND(retain, commands);
}

static int finish(jm_device *d, id commands) {
    if (!commands) return 0;
    SEND(wait, commands);
    int failed = SEND(status, commands) == MTLCommandBufferStatusError;
    if (failed) snprintf(d->error, sizeof d->error, "%s", reason(d, SEND(error_of, commands)));
    release(d, commands);
    return failed ? -1 : 0;
}

EXPORT int jm_run(jm_device *d, jm_commands *c) {
    id before = NULL;
    int failed = 0;
    for (size_t i = 0; i < c->count && !failed; i += STEPS_AT_ONCE) {
        void *pool = d->push();
        size_t left = c->count - i;
        id now = start(d, c->steps + i, left < STEPS_AT_ONCE ? left : STEPS_AT_ONCE);
        failed = finish(d, before) || !now;
        before = now;
        d->pop(pool);
    }
    void *pool = d->push();
    if (finish(d, before)) failed = 1;
    d->pop(pool);
    return failed ? -1 : 0;
}
