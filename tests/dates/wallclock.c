/* Moves the wall clock of one process tree; monotonic clocks and durations stay as they are.
 *
 *   cc -shared -fPIC -O2 -Wall -Wextra -o wallclock.so wallclock.c -ldl -pthread
 *   LD_PRELOAD=./wallclock.so WALLCLOCK_OFFSET_S=-86400 program
 *   LD_PRELOAD=./wallclock.so WALLCLOCK_OFFSET_FILE=offset program
 *
 * WALLCLOCK_OFFSET_FILE holds one native 64-bit integer, the offset in seconds. It is mapped, so
 * that whoever writes it moves the clock of running programs at once.
 *
 * A deadline on the wall clock is an instant of the moved clock: it is moved back before the kernel
 * sees it. A wait that has begun keeps its length when the offset changes.
 *
 * Statically linked programs, raw system calls and the times of files stay with the kernel's
 * clock. Brokers refuse records from their future: move the clock back only, where such a program
 * takes part.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/timeb.h>
#include <sys/timerfd.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

/* Waits of glibc take a realtime deadline or, by an attribute of the object, a monotonic one. The
 * two cannot be told apart by the call; no machine has been up for thirty years. */
static const time_t LEAST_WALL_SECOND = 1000000000;

/* pthread_cond_timedwait has an older version with another layout of the object */
#ifdef __x86_64__
#define COND_VERSION "GLIBC_2.3.2"
#else
#define COND_VERSION "GLIBC_2.17"
#endif

/* Declares the function behind ours, found at the first call. */
#define NEXT(name)                    \
  static __typeof__(name) *real;      \
  if (!real) real = (__typeof__(name) *)next(#name)

static void *next(const char *name) {
  void *found = dlsym(RTLD_NEXT, name);
  if (!found) abort();
  return found;
}

static const volatile int64_t *offset_s;

static void find_offset(void) {
  static int64_t fixed;
  const char *text = getenv("WALLCLOCK_OFFSET_S"), *path = getenv("WALLCLOCK_OFFSET_FILE");
  if (!path) {
    fixed = text ? strtoll(text, NULL, 10) : 0;
    offset_s = &fixed;
    return;
  }
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) abort();
  void *mapped = mmap(NULL, sizeof fixed, PROT_READ, MAP_SHARED, file, 0);
  close(file);
  if (mapped == MAP_FAILED) abort();
  offset_s = mapped;
}

/* Not in a constructor: other libraries read the clock in theirs. */
static int64_t offset(void) {
  if (!offset_s) find_offset();
  return *offset_s;
}

static int is_wall(clockid_t clock) {
  return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
}

static struct timespec unmoved(const struct timespec *deadline) {
  struct timespec there = *deadline;
  if (there.tv_sec > LEAST_WALL_SECOND) there.tv_sec -= offset();
  return there;
}

/* Reading the clock. */

int clock_gettime(clockid_t clock, struct timespec *now) {
  NEXT(clock_gettime);
  int failed = real(clock, now);
  if (!failed && is_wall(clock)) now->tv_sec += offset();
  return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  NEXT(gettimeofday);
  int failed = real(now, zone);
  if (!failed) now->tv_sec += offset();
  return failed;
}

time_t time(time_t *into) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (into) *into = now.tv_sec;
  return now.tv_sec;
}

int timespec_get(struct timespec *now, int base) {
  NEXT(timespec_get);
  int answer = real(now, base);
  if (answer == TIME_UTC) now->tv_sec += offset();
  return answer;
}

int ftime(struct timeb *now) {
  struct timespec at;
  clock_gettime(CLOCK_REALTIME, &at);
  memset(now, 0, sizeof *now);
  now->time = at.tv_sec;
  now->millitm = (unsigned short)(at.tv_nsec / 1000000);
  return 0;
}

/* Waiting until an instant of it. */

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *until,
                    struct timespec *left) {
  NEXT(clock_nanosleep);
  if (!is_wall(clock) || !(flags & TIMER_ABSTIME)) return real(clock, flags, until, left);
  struct timespec there = unmoved(until);
  return real(clock, flags, &there, left);
}

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
  static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
  if (!real) {
    void *found = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", COND_VERSION);
    real = (__typeof__(real))(found ? found : next("pthread_cond_timedwait"));
  }
  struct timespec there = unmoved(until);
  return real(cond, mutex, &there);
}

int pthread_cond_clockwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           clockid_t clock, const struct timespec *restrict until) {
  NEXT(pthread_cond_clockwait);
  struct timespec there = is_wall(clock) ? unmoved(until) : *until;
  return real(cond, mutex, clock, &there);
}

int pthread_timedjoin_np(pthread_t thread, void **answer, const struct timespec *until) {
  NEXT(pthread_timedjoin_np);
  struct timespec there = unmoved(until);
  return real(thread, answer, &there);
}

/* name(object, deadline) */
#define TIMED(name, object_type)                                           \
  int name(object_type restrict object, const struct timespec *restrict until) { \
    NEXT(name);                                                            \
    struct timespec there = unmoved(until);                                \
    return real(object, &there);                                           \
  }

/* name(object, clock, deadline) */
#define CLOCKED(name, object_type)                                         \
  int name(object_type restrict object, clockid_t clock,                   \
           const struct timespec *restrict until) {                        \
    NEXT(name);                                                            \
    struct timespec there = is_wall(clock) ? unmoved(until) : *until;      \
    return real(object, clock, &there);                                    \
  }

TIMED(pthread_mutex_timedlock, pthread_mutex_t *)
TIMED(pthread_rwlock_timedrdlock, pthread_rwlock_t *)
TIMED(pthread_rwlock_timedwrlock, pthread_rwlock_t *)
TIMED(sem_timedwait, sem_t *)
TIMED(mtx_timedlock, mtx_t *)
CLOCKED(pthread_mutex_clocklock, pthread_mutex_t *)
CLOCKED(pthread_rwlock_clockrdlock, pthread_rwlock_t *)
CLOCKED(pthread_rwlock_clockwrlock, pthread_rwlock_t *)
CLOCKED(sem_clockwait, sem_t *)

int cnd_timedwait(cnd_t *restrict cond, mtx_t *restrict mutex,
                  const struct timespec *restrict until) {
  NEXT(cnd_timedwait);
  struct timespec there = unmoved(until);
  return real(cond, mutex, &there);
}

/* Timers: their clock is known only where they were made, so the instant itself tells. */

static struct itimerspec unmoved_timer(const struct itimerspec *wanted) {
  struct itimerspec there = *wanted;
  there.it_value = unmoved(&wanted->it_value);
  return there;
}

int timer_settime(timer_t timer, int flags, const struct itimerspec *restrict wanted,
                  struct itimerspec *restrict before) {
  NEXT(timer_settime);
  if (!(flags & TIMER_ABSTIME)) return real(timer, flags, wanted, before);
  struct itimerspec there = unmoved_timer(wanted);
  return real(timer, flags, &there, before);
}

int timerfd_settime(int timer, int flags, const struct itimerspec *wanted,
                    struct itimerspec *before) {
  NEXT(timerfd_settime);
  if (!(flags & TFD_TIMER_ABSTIME)) return real(timer, flags, wanted, before);
  struct itimerspec there = unmoved_timer(wanted);
  return real(timer, flags, &there, before);
}
