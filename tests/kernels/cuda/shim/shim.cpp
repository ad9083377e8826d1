// Runs one block after the other, its threads as fibers: see shim.h.
#include "shim.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>

dim3 threadIdx, blockIdx, blockDim, gridDim;
void shim_body(void** values);

extern "C" char __start_shared_memory[] __attribute__((weak, visibility("hidden")));
extern "C" char __stop_shared_memory[] __attribute__((weak, visibility("hidden")));

namespace shim {

constexpr int WARP = 32, MOST_THREADS = 1024;
constexpr size_t STACK = 64 << 10;
enum State { READY, AT_BARRIER, AT_SHUFFLE, DONE };

struct Fiber {
    ucontext_t context;
    dim3 index;
    State state;
    int site;  // line of the barrier
};

static Fiber fibers[MOST_THREADS];
static float exchange[MOST_THREADS];
static ucontext_t scheduler;
static int current, threads;
static unsigned random_state;
static char error[256];
static void** arguments;

static void fail(const char* what, int line) {
    if (!error[0]) snprintf(error, sizeof error, "%s, line %d", what, line);
}

static void wait(State state, int site) {
    fibers[current].state = state;
    fibers[current].site = site;
    swapcontext(&fibers[current].context, &scheduler);
}

static void enter() {
    shim_body(arguments);
    fibers[current].state = DONE;
}

static unsigned random_below(unsigned end) {
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % end;
}

// Whether these threads all wait at the same place; then they may go on.
static bool release(int first, int end, State state) {
    for (int i = first; i < end; ++i)
        if (fibers[i].state != state || fibers[i].site != fibers[first].site) return false;
    for (int i = first; i < end; ++i) fibers[i].state = READY;
    return true;
}

static bool ready(int warp) {
    for (int i = warp * WARP; i < min((warp + 1) * WARP, threads); ++i)
        if (fibers[i].state == READY) return true;
    return false;
}

// The threads of a warp that can, in a random order; and past a shuffle, if all of them have come to it.
static void run_warp(int warp) {
    const int first = warp * WARP, end = min(first + WARP, threads);
    int order[WARP];
    for (int i = 0; i < end - first; ++i) {
        const int other = random_below(i + 1);
        order[i] = order[other];
        order[other] = first + i;
    }
    for (int i = 0; i < end - first; ++i) {
        current = order[i];
        if (fibers[current].state != READY) continue;
        threadIdx = fibers[current].index;
        swapcontext(&scheduler, &fibers[current].context);
    }
    release(first, end, AT_SHUFFLE);
}

// A random warp that can run, any number of times in a row: one may get far ahead of another, as on a GPU.
static bool run_any_warp() {
    static int able[MOST_THREADS / WARP];
    int count = 0;
    for (int warp = 0; warp * WARP < threads; ++warp)
        if (ready(warp)) able[count++] = warp;
    if (count == 0) return false;
    const int warp = able[random_below(count)];
    do {
        run_warp(warp);
    } while (ready(warp) && random_below(4) > 0);
    return true;
}

static void run_block(char* stacks) {
    if (__start_shared_memory) memset(__start_shared_memory, 0xff, __stop_shared_memory - __start_shared_memory);
    for (int i = 0; i < threads; ++i) {
        Fiber& fiber = fibers[i];
        fiber.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
        fiber.state = READY;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = stacks + i * STACK;
        fiber.context.uc_stack.ss_size = STACK;
        fiber.context.uc_link = &scheduler;
        makecontext(&fiber.context, enter, 0);
    }
    while (!error[0] && (run_any_warp() || release(0, threads, AT_BARRIER))) {
    }
    for (int i = 0; i < threads; ++i)
        if (fibers[i].state != DONE) fail("not all threads come to the same barrier", fibers[i].site);
}

}  // namespace shim

void shim_barrier(int line) { shim::wait(shim::AT_BARRIER, line); }

float __shfl_xor_sync(unsigned, float value, int lanes) {
    const int self = shim::current;
    shim::exchange[self] = value;
    shim::wait(shim::AT_SHUFFLE, lanes);
    const float result = shim::exchange[self ^ lanes];
    shim::wait(shim::AT_SHUFFLE, -lanes);
    return result;
}

// The step of a warp that fragments.cuh describes, from what each lane holds of A (words 0 to 3) and B (4 and 5).
void shim_multiply_add(float (&sum)[4], const float (&values)[12]) {
    static float held[shim::MOST_THREADS][12];
    const int self = shim::current, first = self / shim::WARP * shim::WARP, lane = self % 4;
    const int group = self % shim::WARP / 4;
    for (int i = 0; i < 12; ++i) held[self][i] = values[i];
    shim::wait(shim::AT_SHUFFLE, shim::WARP);
    for (int i = 0; i < 4; ++i) {
        const int row = i / 2, column = 2 * lane + i % 2;
        for (int word = 0; word < 8; ++word)
            for (int element = 0; element < 2; ++element)
                sum[i] += held[first + 4 * group + word % 4][2 * (word / 4 * 2 + row) + element] *
                          held[first + 4 * column + word % 4][2 * (4 + word / 4) + element];
    }
    shim::wait(shim::AT_SHUFFLE, -shim::WARP);
}

// binary16, as the conversion instructions do it: rounded to nearest even.
float half_value(unsigned short bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const float size = exponent == 31 ? (fraction ? NAN : INFINITY)
                       : exponent     ? ldexpf(1024 + fraction, exponent - 25)
                                      : ldexpf(fraction, -24);
    return bits & 0x8000 ? -size : size;
}
unsigned short half_bits(float value) {
    const unsigned short sign = signbit(value) ? 0x8000 : 0;
    const float size = fabsf(value);
    if (size != size) return 0x7fff;
    if (size >= 65520.0f) return sign | 0x7c00;
    if (size < 0x1p-14f) return sign | (unsigned short)rintf(ldexpf(size, 24));
    int exponent;
    frexpf(size, &exponent);  // size in [2^(exponent - 1), 2^exponent)
    // A fraction that rounds up to 2048 carries into the exponent, as it should.
    return sign | (unsigned short)(((exponent + 13) << 10) + (int)rintf(ldexpf(size, 11 - exponent)));
}

unsigned long long shim_clock() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ull + now.tv_nsec;
}

// What the compiler's checks call; their first field is the place.
struct Place {
    const char* file;
    unsigned line, column;
};
#define SHIM_HANDLER(name, what) \
    extern "C" void __ubsan_handle_##name(Place* place, ...) { shim::fail(what, place->line); }
SHIM_HANDLER(type_mismatch_v1, "a misaligned access")
SHIM_HANDLER(out_of_bounds, "an index outside of its array")
SHIM_HANDLER(add_overflow, "a sum overflows")
SHIM_HANDLER(sub_overflow, "a difference overflows")
SHIM_HANDLER(mul_overflow, "a product overflows")
SHIM_HANDLER(divrem_overflow, "a quotient overflows")
SHIM_HANDLER(negate_overflow, "a negation overflows")
SHIM_HANDLER(shift_out_of_bounds, "a shift is too wide")


extern "C" __attribute__((visibility("default"))) const char* shim_run(const unsigned* grid, const unsigned* block,
                                                                  void** values, unsigned seed) {
    using namespace shim;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    threads = block[0] * block[1] * block[2];
    random_state = seed;
    arguments = values;
    error[0] = 0;
    if (threads < 1 || threads > MOST_THREADS) return "a block of too many threads";
    char* const stacks = static_cast<char*>(
        mmap(nullptr, threads * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (stacks == MAP_FAILED) return "no memory for the stacks";
    for (unsigned z = 0; z < grid[2]; ++z)
        for (unsigned y = 0; y < grid[1]; ++y)
            for (unsigned x = 0; x < grid[0] && !error[0]; ++x) {
                blockIdx = {x, y, z};
                run_block(stacks);
            }
    munmap(stacks, threads * STACK);
    return error;
}
