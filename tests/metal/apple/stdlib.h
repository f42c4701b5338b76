/* As much of macOS's header as jit_metal.c needs, to compile it without an SDK. */
#include <stddef.h>
void *malloc(size_t size);
void *calloc(size_t count, size_t size);
void *realloc(void *memory, size_t size);
void free(void *memory);
char *getenv(const char *name);
