// SQLite, and wrappers of what Swift cannot import.
#include <sqlite3.h>
#include <stdio.h>
#include <sys/stat.h>

// SQLite resolves every symbolic link of a path before it opens it. /proc/PID/fd/N, an open folder, is a link whose
// target may be too long for SQLite, so it must not be recognised as a link.
static inline int ress_lstat(const char *path, struct stat *status) {
  int end = 0;
  sscanf(path, "/proc/%*d/fd/%*d%n", &end);
  return end > 0 && path[end] == 0 ? stat(path, status) : lstat(path, status);
}

/// Makes SQLite treat /proc/PID/fd/N as a folder and not as a link, in all databases of this process.
static inline void ress_sqlite_keep_open_folders(void) {
  sqlite3_vfs *system = sqlite3_vfs_find(0);
  if (system && system->iVersion >= 3) system->xSetSystemCall(system, "lstat", (sqlite3_syscall_ptr)ress_lstat);
}

static inline int ress_sqlite_bind_copy(sqlite3_stmt *statement, int place, const void *bytes, int count) {
  return sqlite3_bind_blob(statement, place, count > 0 ? bytes : "", count, SQLITE_TRANSIENT);
}

static inline int ress_sqlite_bind_text_copy(sqlite3_stmt *statement, int place, const char *text) {
  return sqlite3_bind_text(statement, place, text, -1, SQLITE_TRANSIENT);
}
