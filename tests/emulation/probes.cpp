#include "tests/emulation/probes.h"

#include <lorikeet_device.h>

namespace lorikeet::emulation {

namespace {

using ops::cuda::bf16;

struct ProbeShared {
  alignas(16) bf16 a[32][16];
  alignas(16) bf16 b[16][16];
  float c[32][16];
  float lanes[64];
  float sum[2];
};

uint32_t pair(const bf16* p) { return p[0].bits | uint32_t{p[1].bits} << 16; }

void copy_in(ProbeShared& s, const ProbeArguments& arg) {
  const int t = device::thread();
  device::copy_async16(&s.a[t / 2][t % 2 * 8], arg.a + t * 8, true);
  device::commit_copies();
  if (t < 32) device::copy_async16(&s.b[t / 2][t % 2 * 8], arg.b + t * 8, true);
  device::commit_copies();
  if (arg.plant == Plant::no_wait) {
    // nothing
  } else if (arg.plant == Plant::wait_for_too_few) {
    device::wait_copies<1>();
  } else {
    device::wait_copies<0>();
  }
  if (arg.plant != Plant::no_barrier) device::sync_block();
}

// Each warp 16 rows; returns the sum of the lane's elements.
float multiply(ProbeShared& s) {
  const int warp = device::thread() / 32, lane = device::thread() % 32;
  const int group = lane / 4, column = lane % 4 * 2, row = warp * 16 + group;
  const uint32_t a[4] = {pair(&s.a[row][column]), pair(&s.a[row + 8][column]),
                         pair(&s.a[row][column + 8]), pair(&s.a[row + 8][column + 8])};
  float total = 0;
  for (int n = 0; n < 16; n += 8) {
    float d[4] = {};
    device::multiply_add(d, a, pair(&s.b[n + group][column]), pair(&s.b[n + group][column + 8]));
    for (int i = 0; i < 4; ++i) {
      s.c[row + i / 2 * 8][n + column + i % 2] = d[i];
      total += d[i];
    }
  }
  return total;
}

void plant_late(ProbeShared& s, const ProbeArguments& arg) {
  const int t = device::thread();
  if (arg.plant == Plant::divergent_barrier && t < 32) device::sync_block();
  if (arg.plant == Plant::barriers_apart) {
    if (t < 32) {
      device::sync_block();
    } else {
      device::sync_block();
    }
  }
  if (arg.plant == Plant::divergent_shuffle && t < 16) device::shuffle_xor(1, 1);
  if (arg.plant == Plant::beyond_shared && t == 63) *reinterpret_cast<float*>(&s + 1) = 1;
  if (arg.plant == Plant::beyond_shared_copy && t == 63) {
    device::copy_async16(reinterpret_cast<bf16*>(&s + 1), arg.a, true);
  }
  if (arg.plant == Plant::far_beyond_shared && t == 63) {
    *(reinterpret_cast<float*>(&s + 1) + (100 << 10) / sizeof(float)) = 1;
  }
  if (arg.plant == Plant::elsewhere && t == 63) *arg.out = 1;
  if (arg.plant == Plant::global_race && t == 63) {
    s.lanes[t] = device::load_float(arg.out + device::block() * int64_t{kProbeOutputs} + 512);
  }
  if (arg.plant == Plant::misaligned_shared && t == 63) {
    s.lanes[t] = *reinterpret_cast<const volatile float*>(&s.a[31][1]);
  }
  if (arg.plant == Plant::misaligned_copy && t == 63) {
    device::copy_async16(&s.a[30][2], arg.a, true);
    device::commit_copies();
    device::wait_copies<0>();
  }
  if (arg.plant == Plant::misaligned_global && t == 63) device::load16(arg.out + 513 + t % 2);
  if (arg.plant == Plant::late_overwrite) s.c[31 - t / 2][0] = 0;
  if (arg.plant == Plant::read_unwritten && t == 0) arg.out[0] = s.lanes[7];
  if (arg.plant == Plant::copy_never_awaited) {
    device::sync_block();
    device::copy_async16(&s.a[t / 2][t % 2 * 8], arg.a, true);
  }
}

// Neighbours exchange through shared memory instead of a shuffle.
float add_neighbour(ProbeShared& s, float value, Plant plant) {
  const int t = device::thread();
  s.lanes[t] = value;
  if (plant != Plant::warp_race) device::sync_warp();
  const float sum = value + s.lanes[t ^ 1];
  device::sync_warp();
  return sum;
}

void probe(const ProbeArguments arg) {
  auto& s = device::shared_memory<ProbeShared>();
  const int t = device::thread();
  copy_in(s, arg);
  float total = multiply(s);
  if (arg.plant != Plant::read_unwritten) total = add_neighbour(s, total, arg.plant);
  for (int mask = 16; mask > 1; mask /= 2) total += device::shuffle_xor(total, mask);
  if (t % 32 == 0) s.sum[t / 32] = total;
  device::sync_block();
  const int slot = arg.plant == Plant::same_output ? 0 : device::block();
  float* out = arg.out + static_cast<int64_t>(slot) * kProbeOutputs;
  for (int i = t; i < 512; i += 64) device::store_float(out + i, s.c[i / 16][i % 16]);
  if (t == 0) device::store_float(out + 512, s.sum[0] + s.sum[1]);
  plant_late(s, arg);
}

}  // namespace

void launch_probe(int blocks, const ProbeArguments& arguments) {
  device::launch("probe", probe, {blocks, 64, static_cast<int>(sizeof(ProbeShared))}, {},
                 arguments);
}

}  // namespace lorikeet::emulation
