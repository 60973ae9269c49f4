// Calls of the Linux kernel that Swift cannot see: variadic ones, and those that glibc hides without _GNU_SOURCE.
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

long syscall(long number, ...);

/// Two paths change places in one step. 0, or -1 and errno; ENOSYS or EINVAL where the kernel or file system cannot.
static inline int ress_exchange(const char *one, const char *other) {
  return (int)syscall(SYS_renameat2, AT_FDCWD, one, AT_FDCWD, other, 2 /* RENAME_EXCHANGE */);
}

/// The process gets `signal` when its parent ends.
static inline int ress_die_with_parent(int signal) { return prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0); }
