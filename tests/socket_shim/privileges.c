/* SPDX-License-Identifier: Apache-2.0 */
/* Servers that give up what they may after they have started: another root
 * directory, another user; and a directory in /dev/shm that somebody clears, as
 * systemd does when a user logs out. Connections they have go on, new ones work. */
#include "ends.h"

#include <dirent.h>
#include <grp.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* Another process that reads sleeps already, as far as time can tell. */
static void pass(struct end from, struct end to, uint32_t seed, uint64_t at) {
  if (to.by != NULL) {
    begin_take(to, 1500, seed, at);
    if (at < 3 * 1500) pause_ms(5);
  }
  end_put(from, 1500, seed, at);
  to.by != NULL ? finish_take(to) : end_take(to, 1500, seed, at);
}
static void talk(struct pair p, uint32_t seed) {
  for (uint64_t at = 0; at < 60000; at += 1500) {
    pass(p.ours, p.theirs, seed, at);
    pass(p.theirs, p.ours, seed + 1, at);
  }
}

static void change_root(void) {
  char place[] = "/tmp/privileges.XXXXXX";
  CHECK(mkdtemp(place) != NULL && chdir(place) == 0 && rmdir(place) == 0);
  CHECK(chroot(".") == 0);
}
static void become_nobody(void) {
  CHECK(setgroups(0, NULL) == 0 && setgid(65534) == 0 && setuid(65534) == 0);
}
static void both(void) {
  change_root();
  become_nobody();
}

static void clear_fabric(void) {
  const char* const place = getenv("DIBSOCK_FABRIC");
  DIR* const in = place != NULL ? opendir(place) : NULL;
  if (in == NULL) return;
  for (const struct dirent* each; (each = readdir(in)) != NULL;) {
    unlinkat(dirfd(in), each->d_name, 0);
  }
  closedir(in);
  CHECK(rmdir(place) == 0);
}

/* What was there before, and what is new. */
static void go_on(struct pair p, int listener, const struct sockaddr_storage* at, socklen_t size) {
  talk(p, 1);
  struct pair q = {{NULL, connect_to(at, size)}, {NULL, -1}};
  q.theirs.fd = accept(listener, NULL, NULL);
  CHECK(q.theirs.fd >= 0 && close(listener) == 0);
  talk(q, 3);
  close_pair(q);
  static const enum pairing every_way[] = {SELF, AS_CLIENT, AS_SERVER};
  for (size_t i = 0; i < 3; ++i) {
    q = make_pair(every_way[i], V4);
    talk(q, 5);
    close_pair(q);
  }
  talk(p, 7);
}

/* In a process of its own, since there is no way back. */
static void after(void (*change)(void), struct pair p) {
  fflush(NULL);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    struct sockaddr_storage at;
    socklen_t size = 0;
    const int listener = listen_at(V4, &at, &size);
    change();
    go_on(p, listener, &at, size);
    _exit(0);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  close_pair(p);
}

static void another_root(struct pair p) { after(change_root, p); }
static void another_user(struct pair p) { after(become_nobody, p); }
static void another_both(struct pair p) { after(both, p); }

static void cleared(void) {
  struct pair pairs[] = {make_pair(SELF, V4), make_pair(AS_CLIENT, V4), make_pair(AS_SERVER, V4)};
  for (size_t i = 0; i < 3; ++i) {
    warm_up(pairs[i]);
    check_lane(pairs[i]);
    talk(pairs[i], 9);
  }
  clear_fabric();
  for (size_t i = 0; i < 3; ++i) {
    doing("cleared fabric, pair %zu", i);
    struct sockaddr_storage at;
    socklen_t size = 0;
    const int listener = listen_at(V4, &at, &size);
    go_on(pairs[i], listener, &at, size);
    close_pair(pairs[i]);
  }
}

int main(int count, char** arguments) {
  if (count == 2 && strcmp(arguments[1], "cleared") == 0) {
    cleared();
    return 0;
  }
  if (geteuid() != 0) {
    puts("skipped: only root can do this");
    return 77;
  }
  run_each("another root", another_root);
  run_each("another user", another_user);
  run_each("another root and user", another_both);
  return 0;
}
