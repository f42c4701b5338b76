/* What jit_metal.c uses of Objective-C and Metal. Names and values are Apple's; tests compare them
 * with what Apple's headers say (tests/data/metal_api.json). */
#ifndef METAL_TYPES_H
#define METAL_TYPES_H
#include <stdbool.h>
#include <stdint.h>

typedef struct objc_object *id;
typedef struct objc_selector *SEL;
typedef unsigned long NSUInteger;
typedef long NSInteger;
typedef struct { NSUInteger width, height, depth; } MTLSize;

/* Every message: receiver, name, result, selector, prototype. */
#define MESSAGES(X) \
    X(NSObject, alloc, id, "alloc", (id, SEL)) \
    X(NSObject, init, id, "init", (id, SEL)) \
    X(NSObject, retain, id, "retain", (id, SEL)) \
    X(NSObject, release, void, "release", (id, SEL)) \
    X(NSObject, responds, bool, "respondsToSelector:", (id, SEL, SEL)) \
    X(NSString, new_string, id, "stringWithCString:encoding:", \
      (id, SEL, const char *, NSUInteger)) \
    X(NSString, characters, const char *, "UTF8String", (id, SEL)) \
    X(NSError, description, id, "localizedDescription", (id, SEL)) \
    X(NSArray, count, NSUInteger, "count", (id, SEL)) \
    X(NSArray, element, id, "objectAtIndex:", (id, SEL, NSUInteger)) \
    X(MTLDevice, name_of, id, "name", (id, SEL)) \
    X(MTLDevice, supports, bool, "supportsFamily:", (id, SEL, NSInteger)) \
    X(MTLDevice, longest_buffer, NSUInteger, "maxBufferLength", (id, SEL)) \
    X(MTLDevice, working_set, uint64_t, "recommendedMaxWorkingSetSize", (id, SEL)) \
    X(MTLDevice, allocated, NSUInteger, "currentAllocatedSize", (id, SEL)) \
    X(MTLDevice, new_queue, id, "newCommandQueue", (id, SEL)) \
    X(MTLDevice, new_fence, id, "newFence", (id, SEL)) \
    X(MTLDevice, new_buffer, id, "newBufferWithLength:options:", \
      (id, SEL, NSUInteger, NSUInteger)) \
    X(MTLDevice, new_library, id, "newLibraryWithSource:options:error:", (id, SEL, id, id, id *)) \
    X(MTLDevice, new_pipeline, id, "newComputePipelineStateWithFunction:error:", \
      (id, SEL, id, id *)) \
    X(MTLCompileOptions, set_fast_math, void, "setFastMathEnabled:", (id, SEL, bool)) \
    X(MTLCompileOptions, set_language, void, "setLanguageVersion:", (id, SEL, NSUInteger)) \
    X(MTLLibrary, new_function, id, "newFunctionWithName:", (id, SEL, id)) \
    X(MTLComputePipelineState, most_threads, NSUInteger, "maxTotalThreadsPerThreadgroup", \
      (id, SEL)) \
    X(MTLBuffer, contents, void *, "contents", (id, SEL)) \
    X(MTLBuffer, gpu_address, uint64_t, "gpuAddress", (id, SEL)) \
    X(MTLCommandQueue, command_buffer, id, "commandBuffer", (id, SEL)) \
    X(MTLCommandBuffer, encoder, id, "computeCommandEncoderWithDispatchType:", \
      (id, SEL, NSUInteger)) \
    X(MTLCommandBuffer, commit, void, "commit", (id, SEL)) \
    X(MTLCommandBuffer, wait, void, "waitUntilCompleted", (id, SEL)) \
    X(MTLCommandBuffer, status, NSUInteger, "status", (id, SEL)) \
    X(MTLCommandBuffer, error_of, id, "error", (id, SEL)) \
    X(MTLComputeCommandEncoder, set_pipeline, void, "setComputePipelineState:", (id, SEL, id)) \
    X(MTLComputeCommandEncoder, set_bytes, void, "setBytes:length:atIndex:", \
      (id, SEL, const void *, NSUInteger, NSUInteger)) \
    X(MTLComputeCommandEncoder, use_resources, void, "useResources:count:usage:", \
      (id, SEL, const id *, NSUInteger, NSUInteger)) \
    X(MTLComputeCommandEncoder, wait_fence, void, "waitForFence:", (id, SEL, id)) \
    X(MTLComputeCommandEncoder, update_fence, void, "updateFence:", (id, SEL, id)) \
    X(MTLComputeCommandEncoder, memory_barrier, void, "memoryBarrierWithScope:", \
      (id, SEL, NSUInteger)) \
    X(MTLComputeCommandEncoder, dispatch, void, "dispatchThreadgroups:threadsPerThreadgroup:", \
      (id, SEL, MTLSize, MTLSize)) \
    X(MTLCommandEncoder, end_encoding, void, "endEncoding", (id, SEL))

enum {
    NSUTF8StringEncoding = 4,
    MTLGPUFamilyMetal3 = 5001,
    MTLLanguageVersion3_0 = 196608,
    MTLResourceStorageModeShared = 0,
    MTLResourceHazardTrackingModeUntracked = 256,
    MTLResourceUsageRead = 1,
    MTLResourceUsageWrite = 2,
    MTLDispatchTypeConcurrent = 1,
    MTLBarrierScopeBuffers = 1,
    MTLCommandBufferStatusError = 5,
};

#endif
