// Linux system calls that Swift cannot import: variadic functions, and those that glibc declares only with
// _GNU_SOURCE.
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <malloc.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <time.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

long syscall(long number, ...);

/// Exchanges two paths atomically. Returns 0, or -1 with errno; ENOSYS or EINVAL where the kernel or file system
/// cannot do it.
static inline int ress_exchange(const char *one, const char *other) {
  return (int)syscall(SYS_renameat2, AT_FDCWD, one, AT_FDCWD, other, 2 /* RENAME_EXCHANGE */);
}

/// Duplicates a descriptor; the copy is closed in child programs. Returns -1 with errno on failure.
static inline int ress_dup(int descriptor) { return fcntl(descriptor, F_DUPFD_CLOEXEC, 0); }

/// Sends this process `signal` when its parent ends.
static inline int ress_die_with_parent(int signal) { return prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0); }

// The following functions use system calls by number. Their headers, included here with _GNU_SOURCE and elsewhere
// without, would define types that Swift's importer considers different. The numbers are those of x86-64 and arm64.

/// The number of the calling thread, as in /proc/self/task.
static inline int ress_thread(void) { return (int)syscall(SYS_gettid); }

/// The process ID of the other end of a Unix socket, or -1.
static inline int ress_peer(int socket) {
  struct { int process; unsigned user, group; } peer;
  unsigned size = sizeof peer;
  return syscall(SYS_getsockopt, socket, 1 /* SOL_SOCKET */, 17 /* SO_PEERCRED */, &peer, &size) == 0 ? peer.process : -1;
}

/// Number of bytes that a TCP connection has received (`tcpi_bytes_received`, at byte 128 of `struct tcp_info`), or
/// -1.
static inline long ress_received_bytes(int socket) {
  unsigned char info[232];
  unsigned size = sizeof info;
  unsigned long count;
  int error = errno;
  int failed = syscall(SYS_getsockopt, socket, 6 /* IPPROTO_TCP */, 11 /* TCP_INFO */, info, &size) != 0 || size < 136;
  errno = error;
  if (failed) return -1;
  __builtin_memcpy(&count, info + 128, sizeof count);
  return (long)count;
}

/// Accepts a connection; its descriptor is closed in child programs. Returns -1 with errno on failure.
static inline int ress_accept(int socket) {
  return (int)syscall(SYS_accept4, socket, 0L, 0L, 02000000 /* SOCK_CLOEXEC */);
}

/// Limits the size of files that the process may write to `bytes`; a negative value restores the limit. Returns 0,
/// or -1 with errno.
static inline int ress_limit_files(int process, long bytes) {
  unsigned long limit[2];
  if (syscall(SYS_prlimit64, process, 1 /* RLIMIT_FSIZE */, 0L, limit) != 0) return -1;
  limit[0] = bytes < 0 ? limit[1] : (unsigned long)bytes;
  return (int)syscall(SYS_prlimit64, process, 1 /* RLIMIT_FSIZE */, limit, 0L);
}

/// Starts writing a range of a file to disk. Errors are ignored, because fsync at the end writes everything.
static inline void ress_begin_writeback(int file, long place, long count) {
  int error = errno;
  syscall(SYS_sync_file_range, file, place, count, 2 /* SYNC_FILE_RANGE_WRITE */);
  errno = error;
}

/// The flag of `open` for writing without the page cache. It is a function because Swift does not see glibc's
/// extensions, and a shim because the number differs between processors.
static inline int ress_direct_flag(void) {
#if defined(O_DIRECT)
  return O_DIRECT;
#else
  return __O_DIRECT;
#endif
}

/// Lowers the priority of this thread, and of threads that it starts, by `nice`.
static inline void ress_yield_to_others(int nice) { syscall(SYS_setpriority, 0 /* PRIO_PROCESS */, 0L, (long)nice); }

/// Makes glibc return freed blocks of at least `bytes` to the system, permanently. Otherwise glibc raises that
/// limit up to 32 MiB as blocks are freed, and its arenas become fragmented by messages that one thread allocates
/// and another frees.
static inline void ress_return_blocks_of(int bytes) { mallopt(M_MMAP_THRESHOLD, bytes); }

/// Lets sleeps of this thread end on time, instead of up to 50 µs later.
static inline int ress_sleep_precisely(void) { return prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0); }

/// Waits for a descriptor with a timeout that may be less than a millisecond.
static inline int ress_nap(struct pollfd *descriptor, const struct timespec *time) { return ppoll(descriptor, 1, time, 0); }

/// Raises the number of descriptors that this process may have to what the system permits, at most a million, and
/// returns it. Every connection takes one.
static inline long ress_raise_descriptors(void) {
  unsigned long limit[2];
  if (syscall(SYS_prlimit64, 0, 7 /* RLIMIT_NOFILE */, 0L, limit) != 0) return 1024;
  unsigned long most = limit[1] > (1ul << 20) ? (1ul << 20) : limit[1];
  if (limit[0] < most) {
    unsigned long raised[2] = {most, limit[1]};
    if (syscall(SYS_prlimit64, 0, 7 /* RLIMIT_NOFILE */, raised, 0L) == 0) limit[0] = most;
  }
  return limit[0] > (1ul << 20) ? (1l << 20) : (long)limit[0];
}

/// Number of descriptors that this process may have.
static inline long ress_descriptor_limit(void) {
  unsigned long limit[2];
  if (syscall(SYS_prlimit64, 0, 7 /* RLIMIT_NOFILE */, 0L, limit) != 0) return 1024;
  return limit[0] > (1ul << 20) ? (1l << 20) : (long)limit[0];
}

// Memory that several processes map (`SharedMemory`), and waiting for a number in it to change.

/// Creates a file in memory of `bytes` bytes and seals its size. Returns its descriptor, or -1 with errno.
static inline int ress_memory_file(const char *name, long bytes) {
  int file = (int)syscall(SYS_memfd_create, name, 3 /* MFD_CLOEXEC, MFD_ALLOW_SEALING */);
  if (file < 0) return -1;
  if (ftruncate(file, bytes) == 0 && fcntl(file, 1033 /* F_ADD_SEALS */, 7 /* F_SEAL_SEAL, SHRINK, GROW */) == 0)
    return file;
  close(file);
  return -1;
}

/// Whether a descriptor is that of a file in memory whose size cannot change: reading it can never fail.
static inline int ress_is_memory_file(int file) {
  int seals = fcntl(file, 1034 /* F_GET_SEALS */);
  return seals >= 0 && (seals & 6) == 6;
}

/// Gives the file `from` the descriptor `to`, in place of what that one stood for.
static inline int ress_move_descriptor(int from, int to) {
  int moved = (int)syscall(SYS_dup3, from, to, O_CLOEXEC);
  close(from);
  return moved;
}

/// Reads a number that another process writes; everything that it wrote before is visible afterwards.
static inline unsigned ress_load(const unsigned *place) { return __atomic_load_n(place, __ATOMIC_ACQUIRE); }

/// Writes a number for others, and wakes all that wait for it to change.
static inline void ress_announce(unsigned *place, unsigned value) {
  __atomic_store_n(place, value, __ATOMIC_RELEASE);
  syscall(SYS_futex, place, 1 /* FUTEX_WAKE */, 0x7fffffff, 0L, 0L, 0);
}

/// Sleeps until the number is announced again, for `milliseconds` at most; at once where it is no longer `value`.
static inline void ress_await(const unsigned *place, unsigned value, int milliseconds) {
  struct timespec time = {milliseconds / 1000, (milliseconds % 1000) * 1000000L};
  syscall(SYS_futex, place, 0 /* FUTEX_WAIT */, value, &time, 0L, 0);
}
