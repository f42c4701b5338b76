/* Objects with reference counts, autorelease pools, and objc_msgSend. */
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "standin.h"

#define LIVE 0x4556494cul
#define FREED 0x4445455246ul
#define CLASSES 32
#define KEPT 4096               /* objects freed last, whose use is noticed */

typedef struct { Object object; char *text; } String;
typedef struct { Object object; size_t count; void **objects; } Array;
typedef struct Pool { struct Pool *outer; size_t count, room; Object **objects; } Pool;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Class *classes[CLASSES];
static Object *kept[KEPT];
static size_t next_kept;
static int live;
static __thread Pool *pool;

void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("Metal stand-in: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    abort();
}

/* Objects that have not been freed. */
EXPORT int standin_live(void) { return __atomic_load_n(&live, __ATOMIC_SEQ_CST); }

/* --- counts --- */

void *make(const Class *isa) {
    Object *object = calloc(1, isa->size);
    if (!object) fail("out of memory");
    *object = (Object){LIVE, isa, 1};
    __atomic_add_fetch(&live, 1, __ATOMIC_SEQ_CST);
    return object;
}

static void check(const Object *object, const char *what) {
    if (object->state == FREED) fail("%s of a freed %s", what, object->isa->name);
    if (object->state != LIVE && object->state != CLASS_STATE) fail("%s of no object", what);
}

void *retain(void *pointer) {
    Object *object = pointer;
    check(object, "retain");
    __atomic_add_fetch(&object->count, 1, __ATOMIC_SEQ_CST);
    return object;
}

void release(void *pointer) {
    Object *object = pointer;
    if (!object) return;
    check(object, "release");
    if (__atomic_sub_fetch(&object->count, 1, __ATOMIC_SEQ_CST)) return;
    if (object->isa->dealloc) object->isa->dealloc(object);
    object->state = FREED;
    __atomic_sub_fetch(&live, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_lock(&lock);
    free(kept[next_kept]);
    kept[next_kept] = object;
    next_kept = (next_kept + 1) % KEPT;
    pthread_mutex_unlock(&lock);
}

void *autorelease(void *object) {
    if (!pool) fail("autorelease of a %s without a pool", ((Object *)object)->isa->name);
    if (pool->count == pool->room) {
        pool->room = 2 * pool->room + 8;
        pool->objects = realloc(pool->objects, pool->room * sizeof *pool->objects);
        if (!pool->objects) fail("out of memory");
    }
    pool->objects[pool->count++] = object;
    return object;
}

EXPORT void *objc_autoreleasePoolPush(void) {
    Pool *inner = calloc(1, sizeof *inner);
    if (!inner) fail("out of memory");
    inner->outer = pool;
    return pool = inner;
}

EXPORT void objc_autoreleasePoolPop(void *token) {
    if (!pool || token != pool) fail("a pool is popped that is not the last one");
    Pool *own = pool;
    for (size_t i = own->count; i-- > 0;) release(own->objects[i]);
    pool = own->outer;
    free(own->objects);
    free(own);
}

/* --- messages --- */

EXPORT void *sel_registerName(const char *name) {
    static char *names[256];
    static int count;
    pthread_mutex_lock(&lock);
    int i = 0;
    while (i < count && strcmp(names[i], name)) i++;
    if (i == count) {
        if (count == 256) fail("too many selectors");
        names[count++] = strdup(name);
    }
    pthread_mutex_unlock(&lock);
    return names[i];
}

void add_class(Class *isa) {
    int i = 0;
    while (i < CLASSES && classes[i]) i++;
    if (i == CLASSES) fail("too many classes");
    classes[i] = isa;
}

EXPORT void *objc_getClass(const char *name) {
    for (int i = 0; i < CLASSES && classes[i]; i++)
        if (!strcmp(classes[i]->name, name)) return classes[i];
    return NULL;
}

void expect(const void *pointer, const Class *isa, const char *what) {
    const Object *object = pointer;
    if (!object) fail("%s: expected a %s, got nil", what, isa->name);
    check(object, what);
    if (object->isa != isa) fail("%s: expected a %s, got a %s", what, isa->name, object->isa->name);
}

static void *find(const Method *methods, const char *selector) {
    for (; methods && methods->selector; methods++)
        if (!strcmp(methods->selector, selector)) return methods->function;
    return NULL;
}

static void *nothing(void) { return NULL; }
static void *of_alloc(SELF(Class)) { UNUSED; return make(self); }
static void *of_init(SELF(void)) { UNUSED; return self; }
static void *of_retain(SELF(void)) { UNUSED; return retain(self); }
static void of_release(SELF(void)) { UNUSED; release(self); }

static bool of_responds(SELF(Object), const char *other) {
    UNUSED;
    return find(self->isa->methods, other);
}

/* What objc_msgSend jumps to. */
__attribute__((used))
void *standin_method(const Object *self, const char *selector) {
    static const Method every[] = {
        {"init", of_init}, {"retain", of_retain}, {"release", of_release},
        {"respondsToSelector:", of_responds}, {0}};
    static const Method every_class[] = {{"alloc", of_alloc}, {0}};
    if (!self) return nothing;
    check(self, selector);
    bool is_class = self->state == CLASS_STATE;
    const Class *isa = is_class ? (const Class *)self : self->isa;
    void *found = find(is_class ? isa->class_methods : isa->methods, selector);
    if (!found) found = find(is_class ? every_class : every, selector);
    if (!found) fail("%c[%s %s]: unrecognized selector", "-+"[is_class], isa->name, selector);
    return found;
}

/* Keeps all registers of arguments, finds the method, and goes there with the stack as it was. */
#if defined __x86_64__
__asm__(".text\n.globl objc_msgSend\n.type objc_msgSend,@function\nobjc_msgSend:\n"
        "push %rbp\nmov %rsp, %rbp\nsub $112, %rsp\n"
        "mov %rdi, (%rsp)\nmov %rsi, 8(%rsp)\nmov %rdx, 16(%rsp)\nmov %rcx, 24(%rsp)\n"
        "mov %r8, 32(%rsp)\nmov %r9, 40(%rsp)\n"
        "movups %xmm0, 48(%rsp)\nmovups %xmm1, 64(%rsp)\nmovups %xmm2, 80(%rsp)\n"
        "movups %xmm3, 96(%rsp)\n"
        "call standin_method\nmov %rax, %r11\n"
        "mov (%rsp), %rdi\nmov 8(%rsp), %rsi\nmov 16(%rsp), %rdx\nmov 24(%rsp), %rcx\n"
        "mov 32(%rsp), %r8\nmov 40(%rsp), %r9\n"
        "movups 48(%rsp), %xmm0\nmovups 64(%rsp), %xmm1\nmovups 80(%rsp), %xmm2\n"
        "movups 96(%rsp), %xmm3\n"
        "leave\njmp *%r11\n.size objc_msgSend, .-objc_msgSend\n");
#elif defined __aarch64__
__asm__(".text\n.globl objc_msgSend\n.type objc_msgSend,%function\nobjc_msgSend:\n"
        "stp x29, x30, [sp, #-160]!\nmov x29, sp\n"
        "stp x0, x1, [sp, #16]\nstp x2, x3, [sp, #32]\nstp x4, x5, [sp, #48]\n"
        "stp x6, x7, [sp, #64]\nstr x8, [sp, #80]\n"
        "stp q0, q1, [sp, #96]\nstp q2, q3, [sp, #128]\n"
        "bl standin_method\nmov x16, x0\n"
        "ldp x0, x1, [sp, #16]\nldp x2, x3, [sp, #32]\nldp x4, x5, [sp, #48]\n"
        "ldp x6, x7, [sp, #64]\nldr x8, [sp, #80]\n"
        "ldp q0, q1, [sp, #96]\nldp q2, q3, [sp, #128]\n"
        "ldp x29, x30, [sp], #160\nbr x16\n.size objc_msgSend, .-objc_msgSend\n");
#endif

/* --- strings, errors, arrays --- */

static void *with_characters(SELF(Class), const char *text, unsigned long encoding) {
    UNUSED;
    if (encoding != 4) fail("stringWithCString: encoding %lu is not UTF-8", encoding);
    return string(text);
}

static const char *utf8(SELF(String)) { UNUSED; return self->text; }
static void *described(SELF(String)) { UNUSED; return string(self->text); }
static void free_text(void *self) { free(((String *)self)->text); }

static unsigned long counted(SELF(Array)) { UNUSED; return self->count; }

static void *element(SELF(Array), unsigned long i) {
    UNUSED;
    if (i >= self->count) fail("objectAtIndex: %lu of %zu", i, self->count);
    return self->objects[i];
}

static void free_array(void *pointer) {
    Array *self = pointer;
    for (size_t i = 0; i < self->count; i++) release(self->objects[i]);
    free(self->objects);
}

static CLASS(string_class, "NSString", String, {"UTF8String", utf8});
static CLASS(error_class, "NSError", String, {"localizedDescription", described});
static CLASS(array_class, "NSArray", Array, {"count", counted}, {"objectAtIndex:", element});

static Object *text_object(const Class *isa, const char *text) {
    String *made = make(isa);
    made->text = strdup(text);
    return autorelease(made);
}

Object *string(const char *text) { return text_object(&string_class, text); }
Object *error(const char *text) { return text_object(&error_class, text); }

const char *characters(const void *pointer) {
    expect(pointer, &string_class, "a text");
    return ((const String *)pointer)->text;
}

Object *array(void *const *objects, size_t count) {
    Array *made = make(&array_class);
    made->count = count;
    made->objects = calloc(count, sizeof *made->objects);
    if (!made->objects) fail("out of memory");
    for (size_t i = 0; i < count; i++) made->objects[i] = retain(objects[i]);
    return &made->object;
}

__attribute__((constructor)) static void add_classes(void) {
    static const Method methods[] = {{"stringWithCString:encoding:", with_characters}, {0}};
    string_class.class_methods = methods;
    string_class.dealloc = error_class.dealloc = free_text;
    array_class.dealloc = free_array;
    add_class(&string_class);
    add_class(&error_class);
    add_class(&array_class);
}
