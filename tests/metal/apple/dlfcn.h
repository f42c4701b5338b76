/* As much of macOS's header as jit_metal.c needs, to compile it without an SDK. */
#define RTLD_NOW 2
#define RTLD_LOCAL 4
void *dlopen(const char *path, int mode);
void *dlsym(void *handle, const char *symbol);
char *dlerror(void);
