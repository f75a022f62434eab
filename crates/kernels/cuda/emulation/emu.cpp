// Runs the blocks of a grid: a fiber for each thread of a block, barriers, shared memory.
#include "emu.h"

#include <sched.h>
#include <sys/mman.h>

#include <cstdarg>
#include <cstdio>
#include <map>
#include <random>
#include <string>
#include <vector>

#if defined(__x86_64__)
// Saves what a function must keep, and goes on where another stack was left.
extern "C" void emu_switch(void** save, void* load);
asm(R"(
.text
.globl emu_switch
.type emu_switch,@function
emu_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
.size emu_switch,.-emu_switch
)");
#else
#error "kernels are emulated on x86-64 alone"
#endif

namespace emu {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kStack = 96 << 10;
constexpr unsigned kMaxThreads = 1024;
constexpr unsigned kWarp = 32;

struct Kernel {
  std::string name;
  size_t bytes;
  unsigned threads;
  void (*run)(const void*);
};

std::map<std::string, Kernel>& kernels() {
  static std::map<std::string, Kernel> all;
  return all;
}

enum class Wait { kReady, kBlock, kWarp, kArrivals, kDone };

struct Copy {
  void* to;
  const void* from;
  size_t bytes, zeros;
};

struct CountedCopy {
  Copy copy;
  Arrivals* counter;
};

struct Fiber {
  Thread thread;
  void* stack_pointer;
  Wait wait;
  unsigned mask;
  // Groups of copies that were committed, and those that are not.
  std::vector<std::vector<Copy>> committed;
  std::vector<Copy> open;
  // The same for products of warpgroups.
  std::vector<std::vector<std::function<void()>>> committed_products;
  std::vector<std::function<void()>> open_products;
  // What it waits for, and for which rounds to be over.
  const Arrivals* arrivals;
  bool is_odd;
};

// Of all fibers, each with a page that nobody may touch.
constexpr size_t kStacksBytes = size_t(kMaxThreads) * (kStack + kPage);

struct Warp {
  uint64_t exchange[kWarp];
  void* show[kWarp];
};

struct Scheduler {
  std::vector<Fiber> fibers{kMaxThreads};
  std::vector<Warp> warps{kMaxThreads / kWarp};
  std::vector<unsigned> order;
  std::mt19937_64 random;
  std::vector<CountedCopy> counted;
  unsigned char* stacks = nullptr;
  unsigned char* shared = nullptr;
  size_t shared_room = 0;
  Fiber* running = nullptr;
  void* stack_pointer = nullptr;
  const Kernel* kernel = nullptr;
  const void* params = nullptr;
  std::string error;

  // Threads of the host come and go, and mappings are few.
  ~Scheduler() {
    if (stacks) munmap(stacks, kStacksBytes);
    if (shared) munmap(shared, shared_room + kPage);
  }
};

thread_local Scheduler* scheduler = nullptr;

void yield() { emu_switch(&scheduler->running->stack_pointer, scheduler->stack_pointer); }

extern "C" void emu_thread() {
  scheduler->kernel->run(scheduler->params);
  Fiber& fiber = *scheduler->running;
  if (!fiber.open.empty()) scheduler->error = "a thread ends with a copy that was never committed";
  if (!fiber.open_products.empty() || !fiber.committed_products.empty())
    scheduler->error = "a thread ends with products that it never waited for";
  fiber.wait = Wait::kDone;
  yield();
  __builtin_trap();
}

unsigned char* map(size_t bytes) {
  void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) abort();
  return static_cast<unsigned char*>(at);
}

void prepare(Scheduler& s, unsigned number, dim3 size) {
  Fiber& fiber = s.fibers[number];
  fiber.thread.number = number;
  fiber.thread.index = {number % size.x, number / size.x % size.y, number / (size.x * size.y)};
  fiber.wait = Wait::kReady;
  fiber.committed.clear();
  fiber.open.clear();
  fiber.committed_products.clear();
  fiber.open_products.clear();
  unsigned char* top = s.stacks + (number + 1) * (kStack + kPage);
  auto** stack = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t(15));
  *--stack = nullptr;
  *--stack = reinterpret_cast<void*>(&emu_thread);
  for (int i = 0; i < 6; i++) *--stack = nullptr;
  fiber.stack_pointer = stack;
}

// Let warps go on whose lanes have all arrived. Says whether any did.
bool release_warps(Scheduler& s, unsigned threads) {
  bool any = false;
  for (unsigned first = 0; first < threads; first += kWarp) {
    unsigned lanes = std::min(kWarp, threads - first);
    unsigned seen = 0;
    for (unsigned lane = 0; lane < lanes; lane++) {
      Fiber& fiber = s.fibers[first + lane];
      if (fiber.wait != Wait::kWarp) continue;
      unsigned mask = fiber.mask;
      // Lanes that wait for the same ones need one look.
      if (seen >> lane & 1 && s.fibers[first + __builtin_ctz(mask)].mask == mask) continue;
      seen |= mask;
      bool all = true;
      for (unsigned other = 0; other < kWarp; other++) {
        if (!(mask >> other & 1)) continue;
        if (other >= lanes) {
          s.error = "a warp primitive names lanes that the block does not have";
          return false;
        }
        Fiber& with = s.fibers[first + other];
        if (with.wait == Wait::kDone) {
          s.error = "a warp primitive names a lane that has ended";
          return false;
        }
        all = all && with.wait == Wait::kWarp && with.mask == mask;
      }
      if (!all) continue;
      for (unsigned other = 0; other < lanes; other++)
        if (mask >> other & 1) s.fibers[first + other].wait = Wait::kReady;
      any = true;
    }
  }
  return any;
}

// A round ends with the last of what was missing, and the next one begins.
void end_round(Arrivals* counter) {
  if (counter->missing != 0 || counter->bytes != 0) return;
  counter->missing = counter->threads;
  counter->is_odd ^= 1;
}

// Copies that are counted arrive at once, as late as can be, or by chance. Says whether any did.
bool bring_copies(Scheduler& s, uint64_t order, bool others_go_on) {
  std::vector<CountedCopy> later;
  const size_t before = s.counted.size();
  for (const CountedCopy& counted : s.counted) {
    if (others_go_on && order != 0 && (order == 1 || s.random() % 2 == 0)) {
      later.push_back(counted);
      continue;
    }
    memcpy(counted.copy.to, counted.copy.from, counted.copy.bytes);
    counted.counter->bytes -= int32_t(counted.copy.bytes);
    end_round(counted.counter);
  }
  s.counted = std::move(later);
  return s.counted.size() < before;
}

void run_block(Scheduler& s, unsigned threads, uint64_t order, size_t shared_bytes) {
  memset(shared_memory, 0xff, shared_bytes);
  s.counted.clear();
  for (unsigned i = 0; i < threads; i++) prepare(s, i, block_size);
  for (;;) {
    if (order > 1) std::shuffle(s.order.begin(), s.order.end(), s.random);
    bool any = false;
    for (unsigned number : s.order) {
      Fiber& fiber = s.fibers[number];
      if (fiber.wait == Wait::kArrivals && fiber.arrivals->is_odd != fiber.is_odd) fiber.wait = Wait::kReady;
      if (fiber.wait != Wait::kReady) continue;
      s.running = &fiber;
      current = &fiber.thread;
      emu_switch(&s.stack_pointer, fiber.stack_pointer);
      any = true;
      if (!s.error.empty()) return;
    }
    any = release_warps(s, threads) || any;
    if (!s.error.empty()) return;
    any = bring_copies(s, order, any) || any;
    unsigned ended = 0, waiting = 0, expecting = 0;
    for (unsigned i = 0; i < threads; i++) {
      ended += s.fibers[i].wait == Wait::kDone;
      waiting += s.fibers[i].wait == Wait::kBlock;
      expecting += s.fibers[i].wait == Wait::kArrivals;
    }
    if (ended == threads) {
      if (!s.counted.empty()) s.error = "a block ends with copies that are still under way";
      return;
    }
    if (waiting == threads) {
      for (unsigned i = 0; i < threads; i++) s.fibers[i].wait = Wait::kReady;
      continue;
    }
    if (!any) {
      s.error = "threads wait for each other: " + std::to_string(waiting) + " of " + std::to_string(threads) +
                " at a barrier of the block, " + std::to_string(expecting) + " for arrivals, " + std::to_string(ended) + " have ended";
      return;
    }
  }
}

}  // namespace

thread_local const Thread* current = nullptr;
thread_local dim3 block_index, block_size, grid_size;
thread_local unsigned char* shared_memory = nullptr;

void block_barrier() {
  scheduler->running->wait = Wait::kBlock;
  yield();
}

void warp_barrier(unsigned mask) {
  if (!(mask >> (current->number % kWarp) & 1)) fail("a lane calls a warp primitive whose mask leaves it out");
  scheduler->running->mask = mask;
  scheduler->running->wait = Wait::kWarp;
  yield();
}

uint64_t* exchange() { return scheduler->warps[current->number / kWarp].exchange; }

void** show() { return scheduler->warps[current->number / kWarp].show; }

void fail(const char* format, ...) {
  char text[400];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  scheduler->error = text;
  yield();
  __builtin_trap();
}

void let_other_devices_go_on() { sched_yield(); }

void copy_later(void* to, const void* from, size_t bytes, size_t zeros) {
  scheduler->running->open.push_back({to, from, bytes, zeros});
}

void commit_copies() {
  Fiber& fiber = *scheduler->running;
  fiber.committed.push_back(std::move(fiber.open));
  fiber.open.clear();
}

void wait_copies(unsigned pending) {
  auto& groups = scheduler->running->committed;
  while (groups.size() > pending) {
    for (const Copy& copy : groups.front()) {
      memcpy(copy.to, copy.from, copy.bytes);
      memset(static_cast<char*>(copy.to) + copy.bytes, 0, copy.zeros);
    }
    groups.erase(groups.begin());
  }
}

void multiply_later(std::function<void()> product) { scheduler->running->open_products.push_back(std::move(product)); }

void commit_products() {
  Fiber& fiber = *scheduler->running;
  fiber.committed_products.push_back(std::move(fiber.open_products));
  fiber.open_products.clear();
}

void wait_products(unsigned pending) {
  auto& groups = scheduler->running->committed_products;
  while (groups.size() > pending) {
    const auto group = std::move(groups.front());
    groups.erase(groups.begin());
    for (const auto& product : group) product();
  }
}

void prepare(Arrivals* counter, unsigned threads) { *counter = {threads, threads, 0, 0}; }

void arrive(Arrivals* counter, int bytes_to_come) {
  if (counter->threads > kMaxThreads) fail("a counter of arrivals is not prepared");
  if (counter->missing == 0) fail("more threads arrive than a counter expects");
  counter->bytes += bytes_to_come;
  counter->missing--;
  end_round(counter);
}

void copy_counted(void* to, const void* from, size_t bytes, Arrivals* counter) {
  if (counter->threads > kMaxThreads) fail("a counter of arrivals is not prepared");
  scheduler->counted.push_back({{to, from, bytes, 0}, counter});
}

void await(const Arrivals* counter, bool is_odd) {
  if (counter->threads > kMaxThreads) fail("a counter of arrivals is not prepared");
  if (counter->is_odd != is_odd) return;
  Fiber& fiber = *scheduler->running;
  fiber.arrivals = counter;
  fiber.is_odd = is_odd;
  fiber.wait = Wait::kArrivals;
  yield();
}

Register::Register(const char* name, size_t bytes, unsigned threads, void (*run)(const void*)) {
  kernels()[name] = Kernel{name, bytes, threads, run};
}

}  // namespace emu

extern "C" const void* vlinders_emu_find(const char* name, size_t* params_bytes) {
  auto found = emu::kernels().find(name);
  if (found == emu::kernels().end()) return nullptr;
  *params_bytes = found->second.bytes;
  return &found->second;
}

extern "C" int vlinders_emu_run(const void* kernel, const unsigned* blocks, const unsigned* threads, size_t shared_bytes,
                                const void* params, uint64_t order, char* error, size_t error_bytes) {
  using namespace emu;
  static thread_local Scheduler own;
  Scheduler& s = own;
  scheduler = &s;
  if (!s.stacks) {
    s.stacks = map(kStacksBytes);
    for (unsigned i = 0; i < kMaxThreads; i++) mprotect(s.stacks + i * (kStack + kPage), kPage, PROT_NONE);
    s.shared_room = 256 << 10;
    s.shared = map(s.shared_room + kPage);
    mprotect(s.shared + s.shared_room, kPage, PROT_NONE);
  }
  s.kernel = static_cast<const Kernel*>(kernel);
  s.params = params;
  s.error.clear();
  unsigned count = threads[0] * threads[1] * threads[2];
  block_size = {threads[0], threads[1], threads[2]};
  grid_size = {blocks[0], blocks[1], blocks[2]};
  if (count > s.kernel->threads) {
    s.error = "is started with " + std::to_string(count) + " threads, its bounds are " + std::to_string(s.kernel->threads);
  }
  size_t shared = (shared_bytes + 15) / 16 * 16;
  if (shared > s.shared_room) s.error = "too much shared memory";
  shared_memory = s.shared + s.shared_room - shared;
  s.order.resize(count);
  for (unsigned i = 0; i < count; i++) s.order[i] = order == 1 ? count - 1 - i : i;
  s.random.seed(order);
  for (unsigned z = 0; z < blocks[2]; z++)
    for (unsigned y = 0; y < blocks[1]; y++)
      for (unsigned x = 0; x < blocks[0]; x++) {
        if (!s.error.empty()) break;
        block_index = {x, y, z};
        run_block(s, count, order, shared);
      }
  snprintf(error, error_bytes, "%s", s.error.c_str());
  return s.error.empty() ? 0 : 1;
}
