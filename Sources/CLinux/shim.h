// Calls of the Linux kernel that Swift cannot see: variadic ones, and those that glibc hides without _GNU_SOURCE.
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

long syscall(long number, ...);

/// Two paths change places in one step. 0, or -1 and errno; ENOSYS or EINVAL where the kernel or file system cannot.
static inline int ress_exchange(const char *one, const char *other) {
  return (int)syscall(SYS_renameat2, AT_FDCWD, one, AT_FDCWD, other, 2 /* RENAME_EXCHANGE */);
}

/// The process gets `signal` when its parent ends.
static inline int ress_die_with_parent(int signal) { return prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0); }

/// The process at the other end of a Unix socket, or -1.
static inline pid_t ress_peer(int socket) {
  struct ucred peer;
  socklen_t size = sizeof peer;
  return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 ? peer.pid : -1;
}

/// From now on a file of the process can grow to `bytes` (negative: to what it could when it began). 0, or -1 and errno.
static inline int ress_limit_files(pid_t process, long bytes) {
  struct rlimit limit;
  if (prlimit(process, RLIMIT_FSIZE, 0, &limit) != 0) return -1;
  limit.rlim_cur = bytes < 0 ? limit.rlim_max : (rlim_t)bytes;
  return prlimit(process, RLIMIT_FSIZE, &limit, 0);
}

/// The next connection of a listening socket, not for children. A descriptor, or -1 and errno.
static inline int ress_accept(int socket) { return accept4(socket, 0, 0, SOCK_CLOEXEC); }
