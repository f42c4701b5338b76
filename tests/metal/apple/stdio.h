/* As much of macOS's header as jit_metal.c needs, to compile it without an SDK. */
#include <stddef.h>
int snprintf(char *out, size_t size, const char *format, ...);
int sscanf(const char *text, const char *format, ...);
