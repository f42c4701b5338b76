/* Objects of Metal that more than one file of the stand-in knows. */
#ifndef METAL_H
#define METAL_H
#include "standin.h"

typedef struct { Object object; } Device;
typedef struct { Object object; int updates; } Fence;
typedef struct { Object object; char *host, *device; size_t mapped, shift; } Buffer;
typedef struct { Object object; struct Commands *first, *last; int updates; } Queue;
typedef struct { Object object; void *code; } Library;
typedef struct { Object object; Library *library; char name[64]; } Function;

typedef struct {
    Object object;
    Library *library;
    Kernel kernel;
    const unsigned *sizes;      /* bytes that each binding needs; 0 ends */
    char name[64];
} Pipeline;

extern Class fence_class, buffer_class, queue_class, pipeline_class;

/* kernels.c */
void *new_library(SELF(Device), void *source, void *options, void **error_out);
void *new_pipeline(SELF(Device), Function *function, void **error_out);

/* commands.c */
void *command_buffer(SELF(Queue));
#endif
