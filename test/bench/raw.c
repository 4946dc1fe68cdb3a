/*
 * raw IMAGE STORE SOCKET REQUEST: rounds for a benchmark, as it asks for them on standard input.
 *
 *   build N   the system calls that root needs for a composefs mount, without a service: EROFS straight from the file,
 *             overlay over it
 *   pass N    the same, and the result passed through a socket and received
 *   call N    the bytes of the file REQUEST sent to the service at SOCKET, and its reply with a mount received
 *
 * Each answers with a line: the microseconds of every round. What a round leaves is closed outside of the time.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { SET_STRING = 1, SET_FD = 5, CMD_CREATE = 6, ATTRIBUTES = 1 | 2 | 4 /* ro, nosuid, nodev */ };

static int pair[2], service = -1;
static char request[65536];
static size_t request_bytes;

static int must(int result, const char *what) {
  if (result < 0) {
    perror(what);
    exit(1);
  }
  return result;
}

static int fsopen(const char *type) { return must(syscall(SYS_fsopen, type, 1), "fsopen"); }
static void set(int fs, const char *key, const char *value) {
  must(syscall(SYS_fsconfig, fs, SET_STRING, key, value, 0), key);
}
static void set_fd(int fs, const char *key, int fd) { must(syscall(SYS_fsconfig, fs, SET_FD, key, NULL, fd), key); }
static int mount_of(int fs) {
  must(syscall(SYS_fsconfig, fs, CMD_CREATE, NULL, NULL, 0), "create");
  int mount = must(syscall(SYS_fsmount, fs, 1, ATTRIBUTES), "fsmount");
  close(fs);
  return mount;
}

static int build(const char *image, const char *store) {
  char path[64];
  int file = must(open(image, O_RDONLY | O_CLOEXEC), image);
  snprintf(path, sizeof path, "/proc/self/fd/%d", file);
  int fs = fsopen("erofs");
  set(fs, "source", path);
  int layer = mount_of(fs);
  close(file);
  int objects = must(open(store, O_PATH | O_DIRECTORY | O_CLOEXEC), store);
  fs = fsopen("overlay");
  set_fd(fs, "lowerdir+", layer);
  set_fd(fs, "datadir+", objects);
  set(fs, "metacopy", "on");
  set(fs, "redirect_dir", "on");
  int mount = mount_of(fs);
  close(layer);
  close(objects);
  return mount;
}

/* One recvmsg(2): the bytes that came, and the descriptor that came along, or -1. */
static ssize_t receive(int from, char *into, size_t room, int *fd) {
  char control[CMSG_SPACE(sizeof(int))];
  struct iovec data = {into, room};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  ssize_t bytes = must(recvmsg(from, &message, MSG_CMSG_CLOEXEC), "recvmsg");
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  *fd = -1;
  if (header) memcpy(fd, CMSG_DATA(header), sizeof(int));
  return bytes;
}

static int pass(int mount) {
  char byte = 0, control[CMSG_SPACE(sizeof(int))];
  struct iovec data = {&byte, 1};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(header), &mount, sizeof(int));
  must(sendmsg(pair[0], &message, 0), "sendmsg");
  int received;
  receive(pair[1], &byte, 1, &received);
  return received;
}

/* The mount in the reply, which ends with a NUL. */
static int call(void) {
  static char reply[65536];
  must(send(service, request, request_bytes, 0), "send");
  int mount = -1;
  size_t total = 0;
  do {
    int fd;
    ssize_t bytes = receive(service, reply + total, sizeof reply - total, &fd);
    if (bytes == 0) break;
    if (fd >= 0) mount = fd;
    total += bytes;
  } while (reply[total - 1] != 0);
  if (mount < 0) {
    fprintf(stderr, "the service gave no mount: %.*s\n", (int)total, reply);
    exit(1);
  }
  return mount;
}

static void connect_service(const char *path, const char *request_path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) exit(2);
  strcpy(address.sun_path, path);
  service = must(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
  must(connect(service, (struct sockaddr *)&address, sizeof address), path);
  int file = must(open(request_path, O_RDONLY | O_CLOEXEC), request_path);
  request_bytes = must(read(file, request, sizeof request), request_path);
  close(file);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

int main(int count, char **parameters) {
  if (count != 5) {
    fprintf(stderr, "usage: raw IMAGE STORE SOCKET REQUEST\n");
    return 2;
  }
  must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), "socketpair");
  connect_service(parameters[3], parameters[4]);
  char what[16];
  int rounds;
  while (scanf("%15s %d", what, &rounds) == 2) {
    for (int round = 0; round < rounds; round++) {
      int mount = -1, received = -1;
      double start = now();
      if (*what == 'c') received = call();
      else mount = build(parameters[1], parameters[2]);
      if (*what == 'p') received = pass(mount);
      printf("%.1f ", now() - start);
      if (mount >= 0) close(mount);
      if (received >= 0) close(received);
    }
    printf("\n");
    fflush(stdout);
  }
  return 0;
}
