/*
 * raw IMAGE STORE SOCKET REQUEST: rounds for a benchmark, as it asks for them on standard input.
 *
 *   build N   the system calls that root needs for a composefs mount, without a service: EROFS straight from the file,
 *             overlay over it
 *   pass N    the same, and the result passed through a socket and received
 *   call N    the bytes of the file REQUEST sent to the service at SOCKET, and its reply with a mount received
 *   dial N    the same by a connection of its own, which is closed in the time
 *   flood N   so many calls in all, over 64 connections at once: microseconds from each call to its reply, and last of all
 *             the microseconds that everything took
 *   hold N    so many calls whose mounts stay open
 *   walk N    stat of all that is in the mount received last
 *
 * Each answers with a line: the microseconds of every round. What a round leaves is closed outside of the time.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <fts.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { SET_STRING = 1, SET_FD = 5, CMD_CREATE = 6, ATTRIBUTES = 1 | 2 | 4 /* ro, nosuid, nodev */ };

static const char *socket_path;
static int pair[2], service = -1, latest = -1;
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

/* The mount in the reply that comes from the service, and ends with a NUL. */
static int reply_from(int service) {
  static char reply[65536];
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

static int connect_service(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(socket_path) >= sizeof address.sun_path) exit(2);
  strcpy(address.sun_path, socket_path);
  int made = must(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
  must(connect(made, (struct sockaddr *)&address, sizeof address), socket_path);
  return made;
}

static void ask(int service) { must(send(service, request, request_bytes, 0), "send"); }

static int call(void) {
  ask(service);
  return reply_from(service);
}

static int dial(void) {
  int own = connect_service();
  ask(own);
  int mount = reply_from(own);
  close(mount);
  close(own);
  return -1;
}

static void read_request(const char *path) {
  int file = must(open(path, O_RDONLY | O_CLOEXEC), path);
  request_bytes = must(read(file, request, sizeof request), path);
  close(file);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

static void flood(int calls) {
  enum { CONNECTIONS = 64 };
  static struct pollfd polls[CONNECTIONS];
  static double begun[CONNECTIONS];
  for (int index = 0; index < CONNECTIONS; index++) polls[index] = (struct pollfd){connect_service(), POLLIN, 0};
  double start = now();
  int asked = 0, answered = 0;
  for (int index = 0; index < CONNECTIONS && asked < calls; index++, asked++) {
    begun[index] = now();
    ask(polls[index].fd);
  }
  while (answered < calls) {
    must(poll(polls, CONNECTIONS, -1), "poll");
    for (int index = 0; index < CONNECTIONS; index++) {
      if (!polls[index].revents) continue;
      close(reply_from(polls[index].fd));
      answered++;
      printf("%.1f ", now() - begun[index]);
      if (asked == calls) continue;
      asked++;
      begun[index] = now();
      ask(polls[index].fd);
    }
  }
  printf("%.1f ", now() - start);
  for (int index = 0; index < CONNECTIONS; index++) close(polls[index].fd);
}

static void walk(int mount) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d/", mount);
  char *const paths[] = {path, NULL};
  FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
  if (!tree) must(-1, path);
  while (fts_read(tree)) {
  }
  fts_close(tree);
}

/* One round: what was made, and what was received, both to be closed; -1 for neither. */
static void round_of(char what, const char *image, const char *store, int *made, int *received) {
  switch (what) {
  case 'b': *made = build(image, store); return;
  case 'p': *received = pass(*made = build(image, store)); return;
  case 'c': *received = call(); return;
  case 'd': dial(); return;
  case 'h': latest = call(); return;
  case 'w': walk(latest); return;
  }
}

int main(int count, char **parameters) {
  if (count != 5) {
    fprintf(stderr, "usage: raw IMAGE STORE SOCKET REQUEST\n");
    return 2;
  }
  must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), "socketpair");
  socket_path = parameters[3];
  read_request(parameters[4]);
  service = connect_service();
  char what[16];
  int rounds;
  while (scanf("%15s %d", what, &rounds) == 2) {
    for (int round = 0; round < rounds && *what != 'f'; round++) {
      int made = -1, received = -1;
      double start = now();
      round_of(*what, parameters[1], parameters[2], &made, &received);
      printf("%.1f ", now() - start);
      if (made >= 0) close(made);
      if (received >= 0) close(received);
    }
    if (*what == 'f') flood(rounds);
    printf("\n");
    fflush(stdout);
  }
  return 0;
}
