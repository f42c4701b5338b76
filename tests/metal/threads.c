/* Workgroups, one after another; the threads of one take turns, and change at barriers. */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include "standin.h"

#define MOST_THREADS 1024
#define STACK_BYTES (128 << 10)
#define GUARD_BYTES 4096
enum { ENDED = -1, RUNNING = 0 };       /* or the line of a barrier */

typedef struct { ucontext_t context; jmp_buf place; bool made; int state; Place where; } Fiber;

static Fiber fibers[MOST_THREADS];
static char *stacks;
static jmp_buf scheduler;
static sigjmp_buf fault;
static void *volatile fault_address;
static volatile int fault_signal;
static Fiber *current;
static const Kernel *kernel;
static void *const *bindings;

static void change_back(void) {
    if (!_setjmp(current->place)) _longjmp(scheduler, 1);
}

static void wait_at(int line) {
    current->state = line;
    change_back();
}

static void life(void) {
    for (;;) {
        kernel->run(bindings, &current->where);
        current->state = ENDED;
        change_back();
    }
}

static void change_to(Fiber *fiber) {
    current = fiber;
    if (_setjmp(scheduler)) return;
    if (fiber->made) _longjmp(fiber->place, 1);
    fiber->made = true;
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = stacks + (fiber - fibers) * STACK_BYTES;
    fiber->context.uc_stack.ss_size = STACK_BYTES;
    fiber->context.uc_link = NULL;
    makecontext(&fiber->context, life, 0);
    setcontext(&fiber->context);
}

static void make_stacks(void) {
    if (stacks) return;
    stacks = mmap(NULL, MOST_THREADS * STACK_BYTES, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stacks == MAP_FAILED) fail("no memory for stacks");
    for (int i = 0; i < MOST_THREADS; i++)
        mprotect(stacks + i * STACK_BYTES, GUARD_BYTES, PROT_NONE);
}

/* Run a group to its end; false with the reason if its threads wait for each other. */
static bool run_group(int count, char *reason, size_t size) {
    for (;;) {
        for (int i = 0; i < count; i++)
            if (fibers[i].state == RUNNING) change_to(&fibers[i]);
        int first = fibers[0].state, same = 0, ended = 0;
        for (int i = 0; i < count; i++) {
            same += fibers[i].state == first;
            ended += fibers[i].state == ENDED;
        }
        if (same < count) {
            snprintf(reason, size, "threads of workgroup (%u, %u, %u) part: %d of %d %s line %d, "
                     "%d ended", current->where.group.x, current->where.group.y,
                     current->where.group.z, same, count,
                     first == ENDED ? "like the first, which ended;" : "at the barrier of",
                     first, ended);
            return false;
        }
        if (first == ENDED) return true;
        for (int i = 0; i < count; i++) fibers[i].state = RUNNING;
    }
}

static void on_fault(int number, siginfo_t *info, void *context) {
    (void)context;
    fault_signal = number, fault_address = info->si_addr;
    siglongjmp(fault, 1);
}

static bool run_groups(Size groups, Size threads, char *reason, size_t size) {
    int count = (int)(threads.width * threads.height * threads.depth);
    Position number = {(unsigned)groups.width, (unsigned)groups.height, (unsigned)groups.depth};
    for (unsigned long g = 0; g < groups.width * groups.height * groups.depth; g++) {
        Position group = {(unsigned)(g % groups.width),
                          (unsigned)(g / groups.width % groups.height),
                          (unsigned)(g / groups.width / groups.height)};
        memset(kernel->shared, 0xff, (size_t)(kernel->shared_end - kernel->shared)); /* NaN */
        for (int i = 0; i < count; i++) {
            Position thread = {(unsigned)(i % threads.width),
                               (unsigned)(i / threads.width % threads.height),
                               (unsigned)(i / threads.width / threads.height)};
            fibers[i].where = (Place){group, number, thread};
            fibers[i].state = RUNNING;
            if (!kernel->waits) kernel->run(bindings, &fibers[i].where);
        }
        if (kernel->waits && !run_group(count, reason, size)) return false;
    }
    return true;
}

/* Run all workgroups; false with the reason if a thread touches memory it may not, or waits in
 * vain. One grid at a time. */
bool run_grid(const Kernel *what, void *const *with, Size groups, Size threads, char *reason,
              size_t size) {
    static const int signals[] = {SIGSEGV, SIGILL, SIGTRAP}; /* the last two are of traps */
    static char stack[64 << 10];
    stack_t own = {.ss_sp = stack, .ss_size = sizeof stack}, before;
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    struct sigaction old[3];
    volatile bool right = false;
    make_stacks();
    kernel = what, bindings = with;
    *kernel->barrier = wait_at;
    sigaltstack(&own, &before);
    for (int i = 0; i < 3; i++) sigaction(signals[i], &action, &old[i]);
    if (!sigsetjmp(fault, 1)) right = run_groups(groups, threads, reason, size);
    else if (fault_signal == SIGSEGV) snprintf(reason, size, "page fault at %p", fault_address);
    else snprintf(reason, size, "a thread does what is undefined: see compile_kernel.py's checks");
    for (int i = 0; i < 3; i++) sigaction(signals[i], &old[i], NULL);
    sigaltstack(&before, NULL);
    if (!right)
        for (int i = 0; i < MOST_THREADS; i++) fibers[i].made = false;
    return right;
}
