// Runs the blocks of a grid, cluster by cluster: a fiber for each thread of one, barriers, shared memory.
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
constexpr unsigned kMaxWarps = kMaxThreads / kWarp;
constexpr unsigned kMaxCluster = 8;
// The most that a block has, and from one block of a cluster to the next: between them is a page that nobody may touch.
constexpr size_t kSharedRoom = 256 << 10, kSharedPitch = kSharedRoom + kPage;

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

enum class Wait { kReady, kBlock, kCluster, kWarp, kArrivals, kDone };

struct Copy {
  void* to;
  const void* from;
  size_t bytes, zeros;
};

struct CountedCopy {
  Copy copy;
  Arrivals* counter;
  // The block that asked for it.
  unsigned by;
};

struct Warp {
  uint64_t exchange[kWarp];
  void* show[kWarp];
};

struct Block {
  dim3 index;
  unsigned char* shared;
  // Threads that have ended.
  unsigned ended;
  // Whether others of the cluster may know of its counters.
  bool is_shown;
};

struct Fiber {
  Thread thread;
  // Its rank in the cluster.
  unsigned block;
  Warp* warp;
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

// As many as a block can have, each with a page that nobody may touch.
constexpr size_t kStacksBytes = size_t(kMaxThreads) * (kStack + kPage);

struct Scheduler {
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  std::vector<Block> blocks;
  // Threads of a block.
  unsigned threads = 0;
  // How often all threads of the cluster have met.
  unsigned meetings = 0;
  std::vector<unsigned> order;
  // Warps that do nothing for a while though they could.
  std::vector<bool> naps;
  std::mt19937_64 random;
  std::vector<CountedCopy> counted;
  // The first are kept from launch to launch, more are there only while a cluster needs them.
  std::vector<unsigned char*> stacks;
  // Of the most blocks that a cluster can have.
  unsigned char* shared = nullptr;
  Fiber* running = nullptr;
  void* stack_pointer = nullptr;
  const Kernel* kernel = nullptr;
  const void* params = nullptr;
  std::string error;

  // Threads of the host come and go, and mappings are few.
  ~Scheduler() {
    keep_stacks(0);
    if (shared) munmap(shared, kMaxCluster * kSharedPitch);
  }

  void keep_stacks(size_t count) {
    for (; stacks.size() > count; stacks.pop_back()) munmap(stacks.back(), kStacksBytes);
  }

  Block& block_of(const void* place) { return blocks[(static_cast<const unsigned char*>(place) - shared) / kSharedPitch]; }
};

thread_local Scheduler* scheduler = nullptr;

void yield() { emu_switch(&scheduler->running->stack_pointer, scheduler->stack_pointer); }

extern "C" void emu_thread() {
  scheduler->kernel->run(scheduler->params);
  Fiber& fiber = *scheduler->running;
  scheduler->blocks[fiber.block].ended++;
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

// Room for the threads of so many blocks.
void provide(Scheduler& s, unsigned blocks) {
  if (!s.shared) {
    s.shared = map(kMaxCluster * kSharedPitch);
    for (unsigned i = 0; i < kMaxCluster; i++) mprotect(s.shared + i * kSharedPitch + kSharedRoom, kPage, PROT_NONE);
  }
  const size_t fibers = size_t(blocks) * s.threads;
  while (s.stacks.size() * kMaxThreads < fibers) {
    s.stacks.push_back(map(kStacksBytes));
    for (unsigned i = 0; i < kMaxThreads; i++) mprotect(s.stacks.back() + i * (kStack + kPage), kPage, PROT_NONE);
  }
  s.fibers.resize(std::max(s.fibers.size(), s.stacks.size() * kMaxThreads));
  s.warps.resize(std::max(s.warps.size(), size_t(blocks) * kMaxWarps));
  s.blocks.resize(blocks);
}

void prepare(Scheduler& s, unsigned block, unsigned number, dim3 size) {
  const unsigned of_all = block * s.threads + number;
  Fiber& fiber = s.fibers[of_all];
  fiber.block = block;
  fiber.warp = &s.warps[block * kMaxWarps + number / kWarp];
  fiber.thread.number = number;
  fiber.thread.index = {number % size.x, number / size.x % size.y, number / (size.x * size.y)};
  fiber.wait = Wait::kReady;
  fiber.committed.clear();
  fiber.open.clear();
  fiber.committed_products.clear();
  fiber.open_products.clear();
  unsigned char* top = s.stacks[of_all / kMaxThreads] + (of_all % kMaxThreads + 1) * (kStack + kPage);
  auto** stack = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t(15));
  *--stack = nullptr;
  *--stack = reinterpret_cast<void*>(&emu_thread);
  for (int i = 0; i < 6; i++) *--stack = nullptr;
  fiber.stack_pointer = stack;
}

// Let warps of a block go on whose lanes have all arrived. Says whether any did.
bool release_warps(Scheduler& s, unsigned block) {
  bool any = false;
  const unsigned begin = block * s.threads, end = begin + s.threads;
  for (unsigned first = begin; first < end; first += kWarp) {
    unsigned lanes = std::min(kWarp, end - first);
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

constexpr char kWrittenLate[] = "shared memory of a block that has ended is written";

// Copies that are counted arrive at once, as late as can be, or by chance. Says whether any did.
bool bring_copies(Scheduler& s, uint64_t order, bool others_go_on) {
  std::vector<CountedCopy> later;
  const size_t before = s.counted.size();
  for (const CountedCopy& counted : s.counted) {
    const Block& to = s.block_of(counted.counter);
    if (to.ended == s.threads) {
      s.error = &to == &s.blocks[counted.by] ? "a block ends with copies that are still under way" : kWrittenLate;
      return false;
    }
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

unsigned count(const Scheduler& s, unsigned block, Wait wait) {
  unsigned count = 0;
  for (unsigned i = 0; i < s.threads; i++) count += s.fibers[block * s.threads + i].wait == wait;
  return count;
}

void let_go(Scheduler& s, unsigned block) {
  for (unsigned i = 0; i < s.threads; i++) s.fibers[block * s.threads + i].wait = Wait::kReady;
}

// Let all threads of blocks go on that are at a barrier. Says whether any did.
bool release_blocks(Scheduler& s) {
  bool any = false;
  unsigned meeting = 0;
  for (unsigned block = 0; block < cluster_size; block++) {
    meeting += count(s, block, Wait::kCluster);
    if (count(s, block, Wait::kBlock) < s.threads) continue;
    let_go(s, block);
    any = true;
  }
  if (meeting < s.threads * cluster_size) return any;
  for (unsigned block = 0; block < cluster_size; block++) let_go(s, block);
  s.meetings++;
  return true;
}

// What keeps all threads from going on.
std::string deadlock(const Scheduler& s) {
  std::string text = "threads wait for each other";
  for (unsigned block = 0; block < cluster_size; block++) {
    const auto number = [&](Wait wait) { return std::to_string(count(s, block, wait)); };
    text += block == 0 ? ": " : "; ";
    if (cluster_size > 1) text += "block " + std::to_string(block) + " of the cluster: ";
    text += number(Wait::kBlock) + " of " + std::to_string(s.threads) + " at a barrier of the block, ";
    if (cluster_size > 1) text += number(Wait::kCluster) + " at one of the cluster, ";
    text += number(Wait::kArrivals) + " for arrivals, " + number(Wait::kDone) + " have ended";
  }
  return text;
}

void enter(Scheduler& s, Fiber& fiber) {
  const Block& block = s.blocks[fiber.block];
  s.running = &fiber;
  current = &fiber.thread;
  block_index = block.index;
  cluster_rank = fiber.block;
  shared_memory = block.shared;
  emu_switch(&s.stack_pointer, fiber.stack_pointer);
}

// In orders that are shuffled warps fall behind others by chance: who relies on them all doing a little by turns is found out.
void change_naps(Scheduler& s) {
  for (size_t warp = 0; warp < s.naps.size(); warp++) s.naps[warp] = s.random() % 8 < (s.naps[warp] ? 6 : 1);
}

// Runs the blocks of a cluster, of which the first has this index.
void run_cluster(Scheduler& s, dim3 first, uint64_t order, size_t shared_bytes) {
  s.counted.clear();
  s.meetings = 0;
  for (unsigned block = 0; block < cluster_size; block++) {
    unsigned char* shared = s.shared + block * kSharedPitch + kSharedRoom - shared_bytes;
    s.blocks[block] = {{first.x + block, first.y, first.z}, shared, 0, false};
    memset(shared, 0xff, shared_bytes);
    for (unsigned i = 0; i < s.threads; i++) prepare(s, block, i, block_size);
  }
  for (;;) {
    if (order > 1) {
      std::shuffle(s.order.begin(), s.order.end(), s.random);
      change_naps(s);
    }
    bool any = false;
    for (unsigned number : s.order) {
      Fiber& fiber = s.fibers[number];
      if (fiber.wait == Wait::kArrivals && fiber.arrivals->is_odd != fiber.is_odd) fiber.wait = Wait::kReady;
      if (fiber.wait != Wait::kReady) continue;
      any = true;
      if (s.naps[number / kWarp]) continue;
      enter(s, fiber);
      if (!s.error.empty()) return;
    }
    for (unsigned block = 0; block < cluster_size; block++) any = release_warps(s, block) || any;
    if (!s.error.empty()) return;
    any = bring_copies(s, order, any) || any;
    if (!s.error.empty()) return;
    any = release_blocks(s) || any;
    if (std::all_of(s.blocks.begin(), s.blocks.end(), [&](const Block& block) { return block.ended == s.threads; })) return;
    if (!any) {
      s.error = deadlock(s);
      return;
    }
  }
}

}  // namespace

thread_local const Thread* current = nullptr;
thread_local dim3 block_index, block_size, grid_size;
thread_local unsigned cluster_rank = 0, cluster_size = 1;
thread_local unsigned char* shared_memory = nullptr;

void block_barrier() {
  scheduler->running->wait = Wait::kBlock;
  yield();
}

void cluster_barrier() {
  scheduler->running->wait = Wait::kCluster;
  yield();
}

void warp_barrier(unsigned mask) {
  if (!(mask >> (current->number % kWarp) & 1)) fail("a lane calls a warp primitive whose mask leaves it out");
  scheduler->running->mask = mask;
  scheduler->running->wait = Wait::kWarp;
  yield();
}

uint64_t* exchange() { return scheduler->running->warp->exchange; }

void** show() { return scheduler->running->warp->show; }

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

void prepare(Arrivals* counter, unsigned threads) {
  *counter = {threads, threads, 0, 0};
  scheduler->blocks[cluster_rank].is_shown = false;
}

void arrive(Arrivals* counter, int bytes_to_come) {
  if (counter->threads > kMaxThreads) fail("a counter of arrivals is not prepared");
  if (counter->missing == 0) fail("more threads arrive than a counter expects");
  counter->bytes += bytes_to_come;
  counter->missing--;
  end_round(counter);
}

void copy_counted(void* to, const void* from, size_t bytes, Arrivals* counter) {
  if (counter->threads > kMaxThreads) fail("a counter of arrivals is not prepared");
  const unsigned char* shared = scheduler->shared;
  const auto* at = reinterpret_cast<const unsigned char*>(counter);
  if (at < shared || at >= shared + cluster_size * kSharedPitch) fail("a counter of arrivals is not in shared memory");
  scheduler->counted.push_back({{to, from, bytes, 0}, counter, cluster_rank});
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

void show_to_cluster() { scheduler->blocks[cluster_rank].is_shown = true; }

void* in_block(const void* place, unsigned rank) {
  Scheduler& s = *scheduler;
  if (rank >= cluster_size) fail("there is no block %u in a cluster of %u", rank, cluster_size);
  const unsigned char* own = static_cast<const unsigned char*>(place);
  if (own < shared_memory || own >= s.shared + cluster_rank * kSharedPitch + kSharedRoom)
    fail("what is meant in another block is not in shared memory");
  const Block& block = s.blocks[rank];
  if (block.ended == s.threads) fail(kWrittenLate);
  if (rank != cluster_rank && s.meetings == 0) fail("shared memory of a block is written that may not have begun: blocks have not met");
  if (rank != cluster_rank && !block.is_shown) fail("counters of a block are used that were not shown to the cluster");
  return block.shared + (own - shared_memory);
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

extern "C" int vlinders_emu_run(const void* kernel, const unsigned* blocks, unsigned cluster, const unsigned* threads,
                                size_t shared_bytes, const void* params, uint64_t order, char* error, size_t error_bytes) {
  using namespace emu;
  static thread_local Scheduler own;
  Scheduler& s = own;
  scheduler = &s;
  s.kernel = static_cast<const Kernel*>(kernel);
  s.params = params;
  s.error.clear();
  s.threads = threads[0] * threads[1] * threads[2];
  block_size = {threads[0], threads[1], threads[2]};
  grid_size = {blocks[0], blocks[1], blocks[2]};
  cluster_size = cluster;
  if (s.threads > s.kernel->threads) {
    s.error = "is started with " + std::to_string(s.threads) + " threads, its bounds are " + std::to_string(s.kernel->threads);
  }
  size_t shared = (shared_bytes + 15) / 16 * 16;
  if (shared > kSharedRoom) s.error = "too much shared memory";
  if (cluster == 0 || cluster > kMaxCluster || blocks[0] % cluster != 0) s.error = "blocks are not whole clusters";
  if (s.error.empty()) {
    const unsigned fibers = s.threads * cluster;
    provide(s, cluster);
    s.order.resize(fibers);
    for (unsigned i = 0; i < fibers; i++) s.order[i] = order == 1 ? fibers - 1 - i : i;
    s.naps.assign((fibers + kWarp - 1) / kWarp, false);
    s.random.seed(order);
    for (unsigned z = 0; z < blocks[2]; z++)
      for (unsigned y = 0; y < blocks[1]; y++)
        for (unsigned x = 0; x < blocks[0] && s.error.empty(); x += cluster) run_cluster(s, {x, y, z}, order, shared);
    s.keep_stacks(1);
  }
  snprintf(error, error_bytes, "%s", s.error.c_str());
  return s.error.empty() ? 0 : 1;
}
