// Wrappers of HDF5's macros. Swift cannot import macros that call functions or cast.
#pragma once
#include <fcntl.h>
#include <hdf5.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

long syscall(long number, ...);

static inline hid_t ress_h5_float32(void) { return H5T_NATIVE_FLOAT; }
static inline hid_t ress_h5_float32_file(void) { return H5T_IEEE_F32LE; }
static inline hid_t ress_h5_float64(void) { return H5T_NATIVE_DOUBLE; }
static inline hid_t ress_h5_float64_file(void) { return H5T_IEEE_F64LE; }
static inline hid_t ress_h5_int32(void) { return H5T_NATIVE_INT32; }
static inline hid_t ress_h5_int64(void) { return H5T_NATIVE_INT64; }
static inline hid_t ress_h5_int64_file(void) { return H5T_STD_I64LE; }
static inline hid_t ress_h5_uint64(void) { return H5T_NATIVE_UINT64; }
static inline hid_t ress_h5_uint64_file(void) { return H5T_STD_U64LE; }
static inline hid_t ress_h5_uint8_file(void) { return H5T_STD_U8LE; }
static inline hid_t ress_h5_uint16_file(void) { return H5T_STD_U16LE; }
static inline hid_t ress_h5_uint32(void) { return H5T_NATIVE_UINT32; }
static inline hid_t ress_h5_uint32_file(void) { return H5T_STD_U32LE; }
static inline hid_t ress_h5_dataset_create(void) { return H5P_DATASET_CREATE; }
static inline hid_t ress_h5_group_create(void) { return H5P_GROUP_CREATE; }
static inline hid_t ress_h5_file_create(void) { return H5P_FILE_CREATE; }
static inline hid_t ress_h5_link_create(void) { return H5P_LINK_CREATE; }
static inline hid_t ress_h5_file_access(void) { return H5P_FILE_ACCESS; }
static inline unsigned ress_h5_truncate(void) { return H5F_ACC_TRUNC; }
static inline unsigned ress_h5_exclusive(void) { return H5F_ACC_EXCL; }
static inline unsigned ress_h5_read_only(void) { return H5F_ACC_RDONLY; }
static inline unsigned ress_h5_read_write(void) { return H5F_ACC_RDWR; }
static inline hsize_t ress_h5_unlimited(void) { return H5S_UNLIMITED; }

/// A fixed-length UTF-8 string type, to be closed by the caller.
static inline hid_t ress_h5_string(size_t bytes) {
  hid_t type = H5Tcopy(H5T_C_S1);
  H5Tset_size(type, bytes > 0 ? bytes : 1);
  H5Tset_cset(type, H5T_CSET_UTF8);
  H5Tset_strpad(type, H5T_STR_NULLPAD);
  return type;
}

/// The kind of a link (`H5L_TYPE_…`), or -1.
static inline int ress_h5_link_kind(hid_t place, const char *name) {
  H5L_info_t info;
  return H5Lget_info(place, name, &info, H5P_DEFAULT) < 0 ? -1 : (int)info.type;
}

/// Size in bytes of the value of a soft or external link; 0 for others.
static inline size_t ress_h5_link_size(hid_t place, const char *name) {
  H5L_info_t info;
  return H5Lget_info(place, name, &info, H5P_DEFAULT) < 0 || info.type == H5L_TYPE_HARD ? 0 : info.u.val_size;
}

/// Whether a type is a plain integer of 1, 2, 4 or 8 bytes without padding bits; a signed one only with
/// `or_signed`.
static inline int ress_h5_is_whole(hid_t type, int or_signed) {
  if (H5Tget_class(type) != H5T_INTEGER) return 0;
  size_t size = H5Tget_size(type);
  if (size != 1 && size != 2 && size != 4 && size != 8) return 0;
  if (H5Tget_precision(type) != 8 * size || H5Tget_offset(type) != 0) return 0;
  return or_signed || H5Tget_sign(type) == H5T_SGN_NONE;
}

/// Whether a dataset's chunks use no filter except the checksum.
static inline int ress_h5_has_only_checksums(hid_t properties) {
  int count = H5Pget_nfilters(properties);
  for (int i = 0; i < count; i++) {
    unsigned flags, configuration;
    size_t values = 0;
    if (H5Pget_filter2(properties, (unsigned)i, &flags, &values, NULL, 0, NULL, &configuration) != H5Z_FILTER_FLETCHER32)
      return 0;
  }
  return count >= 0;
}

/// Stops HDF5 from printing errors (they are read with ress_h5_reason) and from doing anything when the process
/// exits: every file is closed by its owner, and HDF5's exit handler crashes where a file could not be closed or
/// where another thread is still inside HDF5.
static inline void ress_h5_quiet(void) {
  H5dont_atexit();
  H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

/// Directs what is still in HDF5's buffers of an object's file to a temporary memory file, instead of a disk that
/// does not accept it. Otherwise closing would fail, and leave an identifier that refers to freed memory and an
/// open file descriptor.
static inline void ress_h5_divert(hid_t object) {
  hid_t file = H5Iget_file_id(object);
  if (file < 0) return;
  void *descriptor = NULL;
  if (H5Fget_vfd_handle(file, H5P_DEFAULT, &descriptor) >= 0 && descriptor != NULL) {
    int memory = (int)syscall(SYS_memfd_create, "ress-undone", 1 /* MFD_CLOEXEC */);
    if (memory >= 0) {
      syscall(SYS_dup3, memory, *(int *)descriptor, 02000000 /* O_CLOEXEC */);
      close(memory);
    }
  }
  H5Fclose(file);
}

/// Closes a file that may have been written to.
static inline herr_t ress_h5_close_file(hid_t id) {
  if (H5Fflush(id, H5F_SCOPE_LOCAL) < 0) ress_h5_divert(id);
  return H5Fclose(id);
}

/// Closes a list, whose last chunks may not have been written yet.
static inline herr_t ress_h5_close_list(hid_t id) {
  if (H5Dflush(id) < 0) ress_h5_divert(id);
  return H5Dclose(id);
}

static inline herr_t ress_h5_keep_message(unsigned n, const H5E_error2_t *error, void *text) {
  (void)n;
  if (error->desc == NULL || error->desc[0] == 0) return 0;
  // The system's error message is inside a text such as "file write failed: time = ..., error message = 'File too
  // large', buf = ...".
  const char *system = strstr(error->desc, "error message = '"), *end = NULL;
  if (system != NULL) {
    system += strlen("error message = '");
    end = strchr(system, '\'');
  }
  const char *what = end != NULL ? system : error->desc;
  size_t count = end != NULL ? (size_t)(end - system) : strlen(what);
  if (count > 255) count = 255;
  memcpy(text, what, count);
  ((char *)text)[count] = 0;
  return 0;
}

/// Writes the innermost message of the error stack to `text`, which has 256 bytes.
static inline void ress_h5_reason(char *text) {
  text[0] = 0;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, ress_h5_keep_message, text);
}
