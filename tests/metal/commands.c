/* Commands of Metal: they run when they are waited for, and dispatches between two barriers in the
 * reverse order. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "metal.h"

#define BINDINGS 31
#define MOST_BYTES 4096         /* of setBytes */
enum { NEW, COMMITTED = 2, COMPLETED = 4, FAILED };

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
static Class commands_class, encoder_class;

void *command_buffer(SELF(Queue)) {
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

static void open_buffers(const Encoder *e, int protection) {
    for (size_t i = 0; i < e->n_used; i++)
        mprotect(e->used[i]->device, e->used[i]->mapped, protection);
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
    commands_class.dealloc = free_commands;
    encoder_class.dealloc = free_encoder;
    add_class(&commands_class);
    add_class(&encoder_class);
}
