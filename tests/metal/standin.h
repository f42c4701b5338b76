/* A stand-in for Apple's Objective-C runtime and Metal: metal_standin.py says what it is for. */
#ifndef STANDIN_H
#define STANDIN_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct { unsigned long width, height, depth; } Size;
typedef struct { const char *selector; void *function; } Method;

#define EXPORT __attribute__((visibility("default")))

/* The parameters that every method begins with. */
#define SELF(type) type *self, const char *selector
#define UNUSED (void)self, (void)selector

typedef struct Object {
    uint64_t state;
    const struct Class *isa;
    int count;
} Object;

typedef struct Class {
    Object object;              /* classes get messages too */
    const char *name;
    const Method *methods, *class_methods; /* each ends with {NULL, NULL} */
    size_t size;                /* bytes of an object */
    void (*dealloc)(void *);
} Class;

#define CLASS(class_, title, type, ...) \
    Class class_ = {{CLASS_STATE, NULL, 1}, title, (const Method[]){__VA_ARGS__, {0}}, NULL, \
                    sizeof(type), NULL}
#define CLASS_STATE 0x5353414c43ul

/* objc.c */
void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void *make(const Class *isa);                   /* a new object, owned by who made it */
void *autorelease(void *object);
void *retain(void *object);
void release(void *object);
void expect(const void *object, const Class *isa, const char *what);
Object *string(const char *text);               /* autoreleased */
Object *error(const char *text);                /* autoreleased */
Object *array(void *const *objects, size_t count);
const char *characters(const void *string);
void add_class(Class *isa);

/* threads.c */
typedef struct { unsigned x, y, z; } Position;
typedef struct { Position group, groups, thread; } Place;
typedef struct {
    void (*run)(void *const *bindings, const Place *place);
    void (**barrier)(int line);
    char *shared, *shared_end;  /* memory of a workgroup */
    bool waits;                 /* whether it has barriers */
} Kernel;
bool run_grid(const Kernel *kernel, void *const *bindings, Size groups, Size threads,
              char *reason, size_t size);
#endif
