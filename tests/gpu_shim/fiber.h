// Fibers: a stack of their own each, switched by hand on x86-64 and aarch64, by ucontext elsewhere.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include <sys/mman.h>

namespace shim {
constexpr size_t STACK = 64 << 10;

inline char *new_stack() {
    void *stack = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    // The lowest page is a guard: a kernel that needs more fails there.
    if (stack == MAP_FAILED || mprotect(stack, 4096, PROT_NONE)) {
        fprintf(stderr, "shim: no memory for a fiber's stack\n");
        abort();
    }
    return (char *)stack;
}
} // namespace shim

#if (defined(__x86_64__) || defined(__aarch64__)) && !defined(SHIM_UCONTEXT)

extern "C" void shim_switch(void **from, void *to) __attribute__((visibility("hidden")));

#if defined(__x86_64__)
// Pushes what a function must preserve, leaves the stack's place in `from`, and goes on where `to` left off.
asm(R"(.text
.hidden shim_switch
.globl shim_switch
shim_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
namespace shim {
constexpr int SAVED = 6, ENTRY = 6, FRAME = 8;
}
#else
asm(R"(.text
.hidden shim_switch
.globl shim_switch
shim_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
)");
namespace shim {
constexpr int ENTRY = 11, FRAME = 20;
}
#endif

namespace shim {
struct Fiber {
    void *place = nullptr;
    char *stack = nullptr;
};

inline void switch_fiber(Fiber &from, Fiber &to) { shim_switch(&from.place, to.place); }

// The fiber will begin with `entry`, which never returns.
inline void start_fiber(Fiber &fiber, void (*entry)()) {
    if (!fiber.stack) fiber.stack = new_stack();
    // As if `entry` had been called: on x86-64 the stack is 8 bytes off a multiple of 16 then.
    void **frame = (void **)(fiber.stack + STACK - 64) - FRAME;
    for (int i = 0; i < FRAME; i++) frame[i] = nullptr;
    frame[ENTRY] = (void *)entry;
    fiber.place = frame;
}
} // namespace shim

#else
#include <ucontext.h>

namespace shim {
struct Fiber {
    ucontext_t context;
    char *stack = nullptr;
};

inline void switch_fiber(Fiber &from, Fiber &to) { swapcontext(&from.context, &to.context); }

inline void start_fiber(Fiber &fiber, void (*entry)()) {
    if (!fiber.stack) fiber.stack = new_stack();
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = STACK;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, entry, 0);
}
} // namespace shim
#endif
