/* As much of macOS's header as jit_metal.c needs, to compile it without an SDK. */
#include <stddef.h>
void *memcpy(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);
char *strstr(const char *text, const char *part);
