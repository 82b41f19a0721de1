/* Loaded before the C library: refuses what the test says, and passes everything else on.
 *
 * The environment variable FAULT says what: "NAME FIRST LAST WAY ID". The calls of NAME from the FIRST to the
 * LAST are refused, counted from when the variable last changed; process.env changes it in a running process. Then
 * FAULTED is set.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { GENERIC_FAILURE = 9, NO_EXTERNAL_BUFFERS = 22 };

static char last_fault[128];
static long calls;

/* Whether this call is to be refused; `way` is how, at most 31 characters. */
static bool is_refused(const char *name, char *way) {
  const char *fault = getenv("FAULT");
  char wanted[64];
  long first, last;
  if (fault == NULL || sscanf(fault, "%63s %ld %ld %31s", wanted, &first, &last, way) != 4) return false;
  if (strcmp(wanted, name) != 0) return false;
  if (strncmp(fault, last_fault, sizeof last_fault - 1) != 0) {
    strncpy(last_fault, fault, sizeof last_fault - 1);
    __atomic_store_n(&calls, 0, __ATOMIC_SEQ_CST);
  }
  long call = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
  if (call < first || last < call) return false;
  setenv("FAULTED", "yes", 1);
  return true;
}

/* Of blocks: the way is their size, because others need memory, too. */
void *mmap(void *address, size_t length, int protection, int flags, int file, off_t offset) {
  char way[32];
  const char *fault = getenv("FAULT");
  if (fault != NULL && file == -1 && protection == (PROT_READ | PROT_WRITE)) {
    long first, last, size;
    if (sscanf(fault, "mmap %ld %ld %ld", &first, &last, &size) == 3 && (size_t)size == length &&
        is_refused("mmap", way)) {
      errno = ENOMEM;
      return MAP_FAILED;
    }
  }
  return (void *)syscall(SYS_mmap, address, length, protection, flags, file, offset);
}

void *mmap64(void *address, size_t length, int protection, int flags, int file, off_t offset) {
  return mmap(address, length, protection, flags, file, offset);
}

static void *next(const char *name) {
  static void *(*find)(void *, const char *);
  static const char *const versions[] = {"GLIBC_2.34", "GLIBC_2.17", "GLIBC_2.2.5"};
  for (size_t i = 0; find == NULL && i < sizeof versions / sizeof *versions; i++)
    find = dlvsym(RTLD_NEXT, "dlsym", versions[i]);
  return find(RTLD_NEXT, name);
}

static void *next_in(void *handle, const char *name) {
  static void *(*find)(void *, const char *);
  if (find == NULL) find = next("dlsym");
  return find(handle, name);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument) {
  static int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
  char way[32];
  if (is_refused("pthread_create", way)) return EAGAIN;
  if (create == NULL) create = next("pthread_create");
  return create(thread, attributes, run, argument);
}

typedef void (*finalizer)(void *, void *, void *);
typedef int (*external_arraybuffer)(void *, void *, size_t, finalizer, void *, void **);
static external_arraybuffer create_external_arraybuffer;

static int refuse_external_arraybuffer(void *env, void *data, size_t length, finalizer finalize, void *hint,
                                       void **result) {
  char way[32];
  if (!is_refused("napi_create_external_arraybuffer", way))
    return create_external_arraybuffer(env, data, length, finalize, hint, result);
  if (strcmp(way, "disallowed") == 0) return NO_EXTERNAL_BUFFERS;
  /* As Node does where the length is too large. */
  if (strcmp(way, "finalized") == 0) finalize(env, data, hint);
  /* Whatever fails after it was made: the garbage collector finds it. */
  void *unseen;
  if (strcmp(way, "made") == 0) create_external_arraybuffer(env, data, length, finalize, hint, &unseen);
  return GENERIC_FAILURE;
}

/* The others that can fail with nothing done, of up to 11 arguments. */
typedef int (*any)(void *, void *, void *, void *, void *, void *, void *, void *, void *, void *, void *);
#define REFUSABLE(name)                                                                                      \
  static any real_##name;                                                                                    \
  static int refuse_##name(void *a, void *b, void *c, void *d, void *e, void *f, void *g, void *h, void *i,  \
                           void *j, void *k) {                                                               \
    char way[32];                                                                                            \
    if (is_refused(#name, way)) return GENERIC_FAILURE;                                                      \
    return real_##name(a, b, c, d, e, f, g, h, i, j, k);                                                     \
  }
REFUSABLE(napi_create_arraybuffer)
REFUSABLE(napi_create_external)
REFUSABLE(napi_create_reference)
REFUSABLE(napi_create_threadsafe_function)
REFUSABLE(napi_detach_arraybuffer)

#define REPLACE(name)                                                                                        \
  if (strcmp(wanted, #name) == 0) {                                                                          \
    real_##name = (any)found;                                                                                \
    return refuse_##name;                                                                                    \
  }

/* The addon looks Node-API's functions up in the executable. */
void *dlsym(void *restrict handle, const char *restrict wanted) {
  void *found = next_in(handle, wanted);
  if (found == NULL) return found;
  if (strcmp(wanted, "napi_create_external_arraybuffer") == 0) {
    create_external_arraybuffer = (external_arraybuffer)found;
    return refuse_external_arraybuffer;
  }
  REPLACE(napi_create_arraybuffer)
  REPLACE(napi_create_external)
  REPLACE(napi_create_reference)
  REPLACE(napi_create_threadsafe_function)
  REPLACE(napi_detach_arraybuffer)
  return found;
}
