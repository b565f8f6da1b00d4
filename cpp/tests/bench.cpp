// Speed of `run` without Python and without a JIT: reads the columns of candles from a file
// (int64 n, then bar_ms, high, low, close, volume), prints the median of three runs in seconds.
//
//   g++ -std=c++17 -O3 -march=native -ffp-contract=off -Icpp cpp/tests/bench.cpp && ./a.out FILE
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <vector>

#include "metrics/stream.hpp"

using namespace manifold;

namespace {

template <class T>
bool read(std::FILE* file, std::vector<T>& column) {
  return std::fread(column.data(), sizeof(T), column.size(), file) == column.size();
}

}  // namespace

int main(int argc, char** argv) {
  std::FILE* file = argc > 1 ? std::fopen(argv[1], "rb") : nullptr;
  std::vector<std::int64_t> length(1);
  if (file == nullptr || !read(file, length)) return 2;
  const std::size_t n = static_cast<std::size_t>(length[0]);
  std::vector<std::int64_t> bar_ms(n), volume(n);
  std::vector<double> high(n), low(n), close(n);
  if (!read(file, bar_ms) || !read(file, high) || !read(file, low) || !read(file, close) ||
      !read(file, volume)) {
    return 2;
  }
  std::fclose(file);
  std::vector<Record> records(n);
  std::array<double, 3> seconds{};
  for (double& taken : seconds) {
    Stream stream;
    stream.open({1500, 60, 2});
    std::int64_t written = 0;
    const auto begin = std::chrono::steady_clock::now();
    const Status status =
        stream.run({bar_ms.data(), high.data(), low.data(), close.data(), volume.data()},
                   length[0], records.data(), written);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    if (status != Status::ok) return 1;
    taken = took.count();
  }
  std::sort(seconds.begin(), seconds.end());
  std::printf("%.9f\n", seconds[1]);
  return 0;
}
