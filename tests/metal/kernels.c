/* Kernels of Metal: libraries that the machine's compiler makes of their text, and pipelines. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "metal.h"

#define MOST_SHARED 32768       /* bytes of a workgroup's memory */

typedef struct { Object object; bool fast_math; unsigned long language; } Options;

static Class options_class, library_class, function_class;

static void set_fast_math(SELF(Options), bool fast) { UNUSED; self->fast_math = fast; }
static void set_language(SELF(Options), unsigned long l) { UNUSED; self->language = l; }

/* A name for a text. */
static void digest(const char *text, char *out) {
    uint64_t a = 0xcbf29ce484222325, b = 0x84222325cbf29ce4;
    for (; *text; text++) {
        a = (a ^ (unsigned char)*text) * 0x100000001b3;
        b = (b + (unsigned char)*text) * 0x9e3779b97f4a7c15;
        b ^= b >> 29;
    }
    sprintf(out, "%016lx%016lx", (unsigned long)a, (unsigned long)b);
}

/* What a command prints: true if it ends well. */
static bool output_of(const char *command, char *out, size_t size) {
    FILE *pipe = popen(command, "r");
    if (!pipe) fail("no shell");
    size_t used = fread(out, 1, size - 1, pipe);
    out[used] = 0;
    while (fgetc(pipe) != EOF) {}
    return pclose(pipe) == 0;
}

/* The library of a kernel, which stays in FOLDER; NULL with the compiler's message. */
static void *compiled(const char *text, char *reason, size_t size) {
    char name[33], path[1024], source[1100], command[4096];
    digest(text, name);
    snprintf(path, sizeof path, FOLDER "/%s.so", name);
    if (!access(path, R_OK)) return dlopen(path, RTLD_NOW | RTLD_LOCAL);
    snprintf(source, sizeof source, FOLDER "/%s.%d", name, (int)getpid());
    FILE *file = fopen(source, "w");
    if (!file || fputs(text, file) == EOF || fclose(file)) fail("%s cannot be written", source);
    snprintf(command, sizeof command, COMPILER " %s %s 2>&1", source, path);
    bool right = output_of(command, reason, size);
    unlink(source);
    return right ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
}

void *new_library(SELF(Device), void *source, void *pointer, void **error_out) {
    UNUSED;
    const Options *options = pointer;
    char reason[2048] = "the compiler's library does not load";
    expect(options, &options_class, "newLibraryWithSource");
    if (options->fast_math) fail("kernels want exact functions, fast ones were asked for");
    if (options->language != 0x30000) fail("language version %#lx", options->language);
    void *code = compiled(characters(source), reason, sizeof reason);
    if (!code) {
        if (error_out) *error_out = error(reason);
        return NULL;
    }
    Library *library = make(&library_class);
    library->code = code;
    return library;
}

static void free_library(void *self) { dlclose(((Library *)self)->code); }

static void *new_function(SELF(Library), void *name) {
    UNUSED;
    char symbol[128];
    snprintf(symbol, sizeof symbol, "standin_run_%s", characters(name));
    if (!dlsym(self->code, symbol)) return NULL;
    Function *made = make(&function_class);
    made->library = retain(self);
    snprintf(made->name, sizeof made->name, "%s", characters(name));
    return made;
}

static void free_function(void *self) { release(((Function *)self)->library); }

static void *symbol_of(const Library *library, const char *prefix, const char *name) {
    char symbol[128];
    snprintf(symbol, sizeof symbol, "standin_%s_%s", prefix, name);
    void *found = dlsym(library->code, symbol);
    if (!found) fail("compiled code lacks %s", symbol);
    return found;
}

void *new_pipeline(SELF(Device), Function *function, void **error_out) {
    UNUSED;
    expect(function, &function_class, "newComputePipelineState");
    const Library *library = function->library;
    Pipeline *made = make(&pipeline_class);
    made->library = retain(function->library);
    *(void **)&made->kernel.run = symbol_of(library, "run", function->name);
    made->kernel.barrier = symbol_of(library, "barrier", function->name);
    made->kernel.waits = *(bool *)symbol_of(library, "waits", function->name);
    char **shared = symbol_of(library, "shared", function->name);
    made->kernel.shared = shared[0], made->kernel.shared_end = shared[1];
    made->sizes = symbol_of(library, "sizes", function->name);
    snprintf(made->name, sizeof made->name, "%s", function->name);
    if (shared[1] - shared[0] <= MOST_SHARED) return made;
    if (error_out) *error_out = error("threadgroup memory exceeds 32768 bytes");
    release(made);
    return NULL;
}

static unsigned long most_threads(SELF(Pipeline)) { UNUSED; return 1024; }
static void free_pipeline(void *self) { release(((Pipeline *)self)->library); }

/* --- classes --- */

static CLASS(options_class, "MTLCompileOptions", Options, {"setFastMathEnabled:", set_fast_math},
             {"setLanguageVersion:", set_language});
static CLASS(library_class, "MTLLibrary", Library, {"newFunctionWithName:", new_function});
static CLASS(function_class, "MTLFunction", Function, {0});
CLASS(pipeline_class, "MTLComputePipelineState", Pipeline,
      {"maxTotalThreadsPerThreadgroup", most_threads});

__attribute__((constructor)) static void add_classes(void) {
    library_class.dealloc = free_library;
    function_class.dealloc = free_function;
    pipeline_class.dealloc = free_pipeline;
    add_class(&options_class);
    add_class(&library_class);
    add_class(&function_class);
    add_class(&pipeline_class);
}
