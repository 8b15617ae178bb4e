/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_BASE_SYS_H
#define LEND_BASE_SYS_H

#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>

/* A mapping of this process. */
struct lend_sys_mapping {
    uint64_t start;
    uint64_t end;
    char rights[5]; /* as in /proc/self/maps: "rw-p" */
};

/*
 * The only door to the system. Production code points lend_sys at lend_sys_real; a test points it
 * at a double that fails the n-th call or keeps its own time. Nothing else in src/ calls malloc,
 * open, socket or clock_gettime: scripts/tidy.py enforces it.
 *
 * A call that the kernel may fail returns its result, or a negative errno; EINTR is retried inside,
 * except where waiting is the purpose. Descriptors are made close-on-exec.
 */
struct lend_sys_ops {
    /* Memory */
    void *(*allocate)(size_t bytes);       /* zeroed; NULL on failure */
    void *(*allocate_dirty)(size_t bytes); /* not zeroed: for what is large, and filled anyway */
    void (*release)(void *memory);         /* NULL is a no-op */

    /* Time and chance */
    uint64_t (*now_ns)(void); /* CLOCK_BOOTTIME; cannot fail */
    void (*sleep_ns)(uint64_t duration_ns);
    int (*random)(void *bytes, size_t count); /* all of them, or a negative errno */

    /* Memory maps and shared memory */
    int (*memfd)(const char *name, size_t bytes); /* of that size, sealed against resizing */
    int (*memfd_check)(int fd, size_t bytes);     /* 0 if it is such a one; else -EINVAL */
    /* bytes of it from offset on (multiples of the page), and the same again behind; NULL on
     * failure. fd -1: new memory of its own. */
    void *(*map_twice)(int fd, uint64_t offset, size_t bytes);
    void (*unmap_twice)(void *memory, size_t bytes);
    int (*map_wiped)(size_t bytes, void **out); /* zeros, and zeros again in a forked child */
    void (*unmap_wiped)(void *memory, size_t bytes);

    /* Files that are mapped, by us and by peers. Huge: pages of the machine's default huge size. */
    int (*memfd_storage)(const char *name, size_t bytes, bool huge); /* of that size; unsealed */
    int (*seal)(int fd, int seals);                                  /* F_SEAL_... */
    int (*seals)(int fd); /* F_SEAL_...; -EINVAL for a file that knows no seals */
    int (*file_stat)(int fd, struct stat *out);
    int (*file_system)(int fd, struct statfs *out);
    size_t (*page_bytes)(void); /* of ordinary pages; cannot fail */
    int (*duplicate)(int fd);
    int (*reopen_read)(int fd); /* the same file anew, for reading alone */
    void *(*map_file)(int fd, uint64_t offset, size_t bytes, bool writable,
                      bool prefault);                  /* shared; NULL on failure */
    void (*unmap)(void *memory, size_t bytes);         /* NULL is a no-op */
    int (*keep_from_fork)(void *memory, size_t bytes); /* forked children have nothing there */
    int (*bind_node)(void *memory, size_t bytes, unsigned node); /* pages yet to come: from there */
    int (*populate)(void *memory, size_t bytes); /* for writing; -EINVAL before Linux 5.14 */
    /* Pages of the file give way to zeros, in all mappings. -EPERM if sealed against writers. */
    int (*punch)(int fd, uint64_t offset, uint64_t bytes);

    /* Another process's memory */
    ssize_t (*read_process)(int pid, const struct iovec *local, unsigned local_count,
                            const struct iovec *remote, unsigned remote_count);
    int (*allow_ptrace)(void); /* to every process of this user; -EINVAL without Yama */

    /* Files */
    int (*open_read)(const char *path);
    /* Of /proc/self/maps, opened: the mapping that has the address, or the next one behind it.
     * -ENOENT: there is none; -ENOTTY: the kernel knows no such question (before Linux 6.11). */
    int (*mapping)(int fd, uint64_t address, struct lend_sys_mapping *out);
    /* A new file of zeros with mode 0600, all of it allocated, so that no store to a map of it
     * finds the disk full; locked (flock) for as long as it is open. -EEXIST: there is something
     * already, were it a link. */
    int (*make_file)(const char *path, size_t bytes);
    ssize_t (*read)(int fd, void *bytes, size_t count);
    ssize_t (*write)(int fd, const void *bytes, size_t count);
    void (*close)(int fd);
    int (*make_directory)(const char *path, unsigned mode); /* 0, or -EEXIST, ... */
    int (*stat)(const char *path, struct stat *out);        /* does not follow a last link */
    int (*chmod)(const char *path, unsigned mode);
    void (*unlink)(const char *path);

    /* UNIX sockets: SOCK_SEQPACKET, non-blocking */
    int (*socket)(void);
    int (*bind)(int fd, const struct sockaddr *address, socklen_t bytes);
    int (*listen)(int fd, int backlog);
    int (*accept)(int fd);
    int (*connect)(int fd, const struct sockaddr *address, socklen_t bytes);
    int (*peer)(int fd, struct ucred *out); /* who is at the other end of a connection */
    void (*shutdown)(int fd);       /* hang up, although a forked child may hold the socket too */
    void (*shutdown_write)(int fd); /* the same to the other end, whom we go on to hear */
    ssize_t (*sendmsg)(int fd, const struct msghdr *message); /* MSG_NOSIGNAL | MSG_DONTWAIT */
    ssize_t (*recvmsg)(int fd, struct msghdr *message);       /* MSG_CMSG_CLOEXEC | MSG_DONTWAIT */

    /* TCP sockets: non-blocking; bind() and what follows above are for them too */
    int (*tcp_socket)(int family); /* AF_INET, AF_INET6 */
    int (*set_option)(int fd, int level, int name, int value);
    int (*pending_error)(int fd); /* of a connection, as a negative errno, once; 0: none */
    int (*own_address)(int fd, struct sockaddr_storage *out);
    int (*peer_address)(int fd, struct sockaddr_storage *out);
    /* Numeric addresses of the interfaces that are up, at most capacity; how many. */
    int (*interfaces)(struct sockaddr_storage *out, int capacity);
    /* Our own address, from which this machine's routes lead to that one; -ENETUNREACH: none do. */
    int (*source_address)(const struct sockaddr_storage *to, struct sockaddr_storage *out);

    /* Libraries that are loaded while we run */
    void *(*load)(const char *path, char *why, size_t capacity); /* NULL: why, in its words */
    void *(*symbol)(void *library, const char *name);            /* NULL: it has none */
    void (*unload)(void *library);                               /* NULL is a no-op */
    /* How many loaded libraries have a file name that begins so, and the path of the first that
     * contains the address (or of any, for NULL), "" if there is none. */
    unsigned (*libraries)(const char *name, const void *address, char *path, size_t capacity);

    /* Waiting */
    int (*epoll)(void);
    int (*epoll_control)(int epoll, int operation, int fd, struct epoll_event *event);
    int (*epoll_wait)(int epoll, struct epoll_event *events, int count, uint64_t timeout_ns);
    int (*event)(void);                       /* an eventfd, non-blocking */
    int (*timer)(void);                       /* a timerfd, non-blocking, */
    int (*set_timer)(int fd, uint64_t in_ns); /* which is readable once after so long, > 0 */
    int (*poll)(struct pollfd *fds, unsigned count, uint64_t timeout_ns);
    int (*set_nonblocking)(int fd); /* a descriptor that a library made */
    int (*pidfd_self)(void);
    void (*self)(struct ucred *out); /* our process, effective user and group */

    /* Threads */
    unsigned (*processors)(void); /* that this thread may run on */
    void (*yield)(void);          /* let others have the processor, if any wait for it */
    int (*thread)(pthread_t *out, void *(*body)(void *context), void *context, const char *name);
    /* pthread_cond_timedwait() for at most that long; may wake early. The condition has the default
     * clock. */
    void (*wait)(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t duration_ns);
};

extern const struct lend_sys_ops lend_sys_real;
int lend_sys_mapping_real(int fd, uint64_t address, struct lend_sys_mapping *out);
unsigned lend_sys_libraries_real(const char *name, const void *address, char *path,
                                 size_t capacity);
extern const struct lend_sys_ops *lend_sys;

/* Run the type's destructor when a local goes out of scope: `LEND_AUTO(lend_x) struct lend_x *x`.
 */
#define LEND_AUTO(type) __attribute__((cleanup(type##_auto)))
#define LEND_AUTO_DEFINE(type, destroy)                                                            \
    static inline void type##_auto(struct type **slot)                                             \
    {                                                                                              \
        destroy(*slot);                                                                            \
    }

/* Hand a scoped pointer to somebody else: yields it and leaves NULL behind. */
#define LEND_TAKE(slot)                                                                            \
    __extension__({                                                                                \
        __typeof__(slot) *lend_take_slot_ = &(slot);                                               \
        __typeof__(slot) lend_take_value_ = *lend_take_slot_;                                      \
        *lend_take_slot_ = NULL;                                                                   \
        lend_take_value_;                                                                          \
    })

#endif
