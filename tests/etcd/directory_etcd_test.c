/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: agents find each other through etcd: what one publishes others find and are told of, with
 * every change; what a dead one published goes, and its successor is noticed; a name belongs to who
 * had it first; whatever stands in etcd that is none of ours does no harm; and with etcd stopped,
 * killed or emptied under way nothing hangs, and all is as it should be when it is back.
 * Method: a real etcd-server of the test's own, agents of one process, and one of a process that is
 * killed. Whatever has to come is waited for; how soon it comes decides nothing.
 */
#include "member.h"
#include "server.h"

#include <signal.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct etcd etcd;

static const char *url_of(const char *prefix)
{
    static char url[128];

    (void)snprintf(url, sizeof url, "etcd://%s%s", etcd.client, prefix);
    return url;
}

static struct member *enter(const char *name, const char *prefix)
{
    struct member *member = make_member(name);
    struct lend_directory_config config = config_of(member, url_of(prefix));

    enter_with(member, &config);
    return member;
}

/* --- finding --- */

static uint64_t lend_pages(struct lend_agent *agent, uint8_t *memory, size_t count)
{
    struct lend_region_desc *descs = calloc(count, sizeof *descs);
    struct lend_region **regions = calloc(count, sizeof(struct lend_region *));
    char(*names)[64] = calloc(count, sizeof *names);
    struct lend_error error = {0};

    assert_true(descs != NULL && regions != NULL && names != NULL);
    for (size_t i = 0; i < count; i++) {
        descs[i] = (struct lend_region_desc)LEND_REGION_DESC_INIT;
        check(lend_memory_system(memory + 64 * i, 64, &descs[i].memory, &error), &error);
        descs[i].geometry.block_length_bytes = 1 + i % 64;
        descs[i].geometry.count = 1;
        descs[i].access = LEND_ACCESS_READ;
        (void)snprintf(names[i], sizeof names[i], "%zu-is-the-name-of-some-bytes",
                       i * 7919 % count);
        descs[i].name = names[i];
    }
    check(lend_region_register(agent, descs, (uint32_t)count, regions, NULL, &error), &error);
    uint64_t id = lend_region_id(regions[0]);
    free(descs);
    free(regions);
    free(names);
    return id;
}

static void test_what_is_published_is_found_and_kept_up_to_date(void **state)
{
    static uint8_t memory[4096];
    struct member *one = enter("one", ""), *other = enter("other", "");
    struct lend_found *found = NULL;
    struct lend_peer *peer = NULL;
    struct lend_error error = {0};

    (void)state;
    assert_int_equal(find_status(other, "one"), LEND_E_ABSENT);
    publish(one, "first");
    await_event(other, LEND_DIRECTORY_CAME, "one", "first");
    expect_found(other, "one", "first");
    check(lend_directory_find(other->directory, "one", 0, &found, &error), &error);
    check(lend_peer_import(other->agent, found->metadata, found->metadata_bytes, &peer, &error),
          &error);
    lend_found_release(found);

    attach(one, "second"); /* nobody says publish: it is seen */
    await_event(other, LEND_DIRECTORY_CHANGED, "one", "second");
    attach(one, "Second"); /* of the same length */
    await_event(other, LEND_DIRECTORY_CHANGED, "one", "Second");
    struct lend_peer_info info = {.struct_size = sizeof info};
    check(lend_peer_describe(peer, &info, &error), &error);
    assert_int_equal(info.region_count, 0);
    (void)lend_pages(one->agent, memory, 4);
    await_event(other, LEND_DIRECTORY_CHANGED, "one", "Second");
    check(lend_peer_describe(peer, &info, &error), &error);
    assert_int_equal(info.region_count, 4); /* refreshed before the event was told */
    lend_peer_forget(peer);

    /* Each other, and not themselves. */
    publish(other, "and I");
    await_event(one, LEND_DIRECTORY_CAME, "other", "and I");
    assert_int_equal(one->count, 1);
    leave(one);
    await_event(other, LEND_DIRECTORY_LEFT, "one", NULL);
    assert_int_equal(find_status(other, "one"), LEND_E_ABSENT);
    leave(other);
}

static void test_who_comes_later_is_told_of_who_is_there(void **state)
{
    enum { MANY = 40 }; /* more than a page of a listing */
    struct member *there[MANY];
    char name[32];

    (void)state;
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(name, sizeof name, "agent/%02d \xc3\xa9", i);
        there[i] = enter(name, "/deep/prefix");
        publish(there[i], name);
    }
    struct member *late = enter("late", "/deep/prefix/");
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(name, sizeof name, "agent/%02d \xc3\xa9", i);
        await_event(late, LEND_DIRECTORY_CAME, name, name);
    }
    struct member *elsewhere = enter("elsewhere", "");
    assert_int_equal(find_status(elsewhere, "agent/07 \xc3\xa9"), LEND_E_ABSENT);
    assert_int_equal(elsewhere->count, 0);
    leave(elsewhere);
    leave(late);
    for (int i = 0; i < MANY; i++)
        leave(there[i]);
}

struct search {
    struct member *member;
    enum lend_status status;
    struct lend_found *found;
};

static void *search(void *context)
{
    struct search *it = context;
    struct lend_error error;

    it->status = lend_directory_find(it->member->directory, "awaited", PATIENCE_SECONDS * SECOND,
                                     &it->found, &error);
    return NULL;
}

static void test_who_waits_for_an_agent_finds_it_when_it_comes(void **state)
{
    struct member *waiting = enter("waiting", ""), *awaited = enter("awaited", "");
    struct search it = {.member = waiting};
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, search, &it), 0);
    publish(awaited, "here");
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(it.status, LEND_OK);
    assert_memory_equal(it.found->attachment, "here", 4);
    lend_found_release(it.found);
    leave(awaited);
    leave(waiting);
}

/* --- names and lives --- */

static void test_a_name_belongs_to_who_had_it_first(void **state)
{
    struct member *first = enter("same", ""), *second = enter("same", "");
    struct member *other = enter("other", "");
    struct lend_error error = {0};

    (void)state;
    publish(first, "first");
    await_event(other, LEND_DIRECTORY_CAME, "same", "first");
    attach(second, "second");
    assert_int_equal(lend_directory_publish(second->directory, &error), LEND_E_BUSY);
    expect_found(other, "same", "first");
    publish(first, "first, again");
    await_event(other, LEND_DIRECTORY_CHANGED, "same", "first, again");
    leave(first);
    await_event(other, LEND_DIRECTORY_LEFT, "same", NULL);
    await_event(other, LEND_DIRECTORY_CAME, "same", "second"); /* taken over */
    expect_found(other, "same", "second");
    leave(second);
    leave(other);
}

/* The program that is killed: it publishes itself, and waits. */
static int live(const char *url, const char *attachment)
{
    struct member *member = make_member("mortal");
    struct lend_directory_config config = config_of(member, url);
    struct lend_error error;

    if (lend_directory_open(member->agent, &config, &member->directory, &error) != LEND_OK ||
        lend_agent_attach(member->agent, attachment, strlen(attachment), &error) != LEND_OK)
        return 1;
    (void)!lend_directory_publish(member->directory, &error); /* BUSY at first, perhaps */
    for (;;)
        (void)pause();
}

static pid_t give_life(const char *attachment)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        (void)execl("/proc/self/exe", "mortal", "live", url_of(""), attachment, (char *)NULL);
        _exit(127);
    }
    return pid;
}

static void take_life(pid_t pid)
{
    int how;

    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &how, 0), pid);
    assert_true(WIFSIGNALED(how));
}

static void test_a_dead_agent_goes_and_its_successor_comes(void **state)
{
    struct member *other = enter("other", "");

    (void)state;
    pid_t pid = give_life("one life");
    await_event(other, LEND_DIRECTORY_CAME, "mortal", "one life");
    take_life(pid);
    await_event(other, LEND_DIRECTORY_LEFT, "mortal", NULL);
    assert_int_equal(find_status(other, "mortal"), LEND_E_ABSENT);

    /* One that is there again before its entry is gone. */
    pid = give_life("another");
    await_event(other, LEND_DIRECTORY_CAME, "mortal", "another");
    take_life(pid);
    pid = give_life("the next");
    await_event(other, LEND_DIRECTORY_LEFT, "mortal", NULL);
    await_event(other, LEND_DIRECTORY_CAME, "mortal", "the next");
    take_life(pid);
    await_event(other, LEND_DIRECTORY_LEFT, "mortal", NULL);
    leave(other);
}

/* --- etcd in trouble --- */

static void test_a_stopped_etcd_is_survived(void **state)
{
    struct member *one = make_member("one"), *other = enter("other", "");
    struct lend_directory_config config = config_of(one, url_of(""));
    struct lend_error error = {0};

    (void)state;
    config.timeout_ns = SECOND;
    enter_with(one, &config);
    publish(one, "before");
    await_event(other, LEND_DIRECTORY_CAME, "one", "before");
    etcd_signal(&etcd, SIGSTOP);
    attach(one, "meanwhile");
    assert_int_equal(lend_directory_publish(one->directory, &error), LEND_E_TIMEOUT);
    assert_int_equal(find_status(one, "other"), LEND_E_TIMEOUT);
    etcd_signal(&etcd, SIGCONT);
    await_attachment(other, "one", "meanwhile"); /* nobody has asked again */
    etcd_signal(&etcd, SIGSTOP);
    leave(one); /* does not hang */
    etcd_signal(&etcd, SIGCONT);
    await_event(other, LEND_DIRECTORY_LEFT, "one", NULL);
    leave(other);
}

/* Until the service has been asked for what there is so often, since it was that often. */
static void await_ranges(struct member *member, const struct etcd *asked, unsigned long from,
                         unsigned long more)
{
    int looks = 0;

    while (etcd_range_count(asked) < from + more && looks++ < PATIENCE_SECONDS * 10)
        await_news(member, SECOND / 10);
    assert_true(etcd_range_count(asked) >= from + more);
}

/* Its connections stay open, and nothing comes. A watch is renewed much later than anybody here
 * waits, so that it has to ask. */
static void test_a_watch_leaves_a_member_that_has_stopped(void **state)
{
    enum { MEMBERS = 3 };
    struct etcd members[MEMBERS];
    struct member *one = make_member("one"), *other = make_member("other");
    char all[256], others[256];

    (void)state;
    etcd_start_cluster(members, MEMBERS);
    (void)snprintf(all, sizeof all, "etcd://%s,%s,%s", members[0].client, members[1].client,
                   members[2].client);
    (void)snprintf(others, sizeof others, "etcd://%s,%s", members[1].client, members[2].client);
    struct lend_directory_config config = config_of(one, others);
    enter_with(one, &config);
    config = config_of(other, all);
    config.timeout_ns = 10 * SECOND;
    enter_with(other, &config);
    publish(one, "before");
    await_event(other, LEND_DIRECTORY_CAME, "one", "before");

    /* One that is but silent is left in peace. */
    await_ranges(other, &members[0], etcd_range_count(&members[0]), 2);
    assert_int_equal(other->warnings, 0);
    etcd_signal(&members[0], SIGSTOP);
    attach(one, "meanwhile");
    await_event(other, LEND_DIRECTORY_CHANGED, "one", "meanwhile");
    assert_true(other->warnings > 0);
    expect_found(other, "one", "meanwhile");
    etcd_signal(&members[0], SIGCONT);
    leave(one);
    await_event(other, LEND_DIRECTORY_LEFT, "one", NULL);
    leave(other);
    for (int i = 0; i < MEMBERS; i++)
        etcd_end(&members[i]);
}

static void test_a_killed_etcd_is_survived(void **state)
{
    struct member *one = enter("one", ""), *other = enter("other", "");
    struct lend_error error = {0};

    (void)state;
    publish(one, "before");
    await_event(other, LEND_DIRECTORY_CAME, "one", "before");
    etcd_kill(&etcd);
    attach(one, "without etcd");
    assert_int_equal(lend_directory_publish(one->directory, &error), LEND_E_NO_PATH);
    etcd_restart(&etcd, false);
    await_attachment(other, "one", "without etcd");
    /* With all of its revisions and leases lost. */
    etcd_restart(&etcd, true);
    attach(one, "after all was lost");
    await_attachment(other, "one", "after all was lost");
    expect_found(other, "one", "after all was lost");
    /* Nothing changed, and still it is published again. */
    etcd_restart(&etcd, true);
    struct lend_found *found = NULL;
    check(lend_directory_find(other->directory, "one", PATIENCE_SECONDS * SECOND, &found, &error),
          &error);
    lend_found_release(found);
    leave(one);
    leave(other);
}

static void test_what_was_compacted_is_listed_anew(void **state)
{
    struct member *one = enter("one", ""), *other = enter("other", "");

    (void)state;
    publish(one, "before");
    await_event(other, LEND_DIRECTORY_CAME, "one", "before");
    for (int i = 0; i < 3; i++) {
        char text[16], revision[16];

        (void)snprintf(text, sizeof text, "change %d", i);
        etcd_control(&etcd, NULL, NULL, (const char *const[]){"put", "elsewhere", text, NULL});
        (void)snprintf(revision, sizeof revision, "%d", 2 + i);
        if (i > 0) /* revisions that there are for certain */
            etcd_control(&etcd, NULL, NULL, (const char *const[]){"compact", revision, NULL});
        etcd_restart(&etcd, false); /* the watch begins anew */
        attach(one, text);
        await_attachment(other, "one", text);
    }
    leave(one);
    leave(other);
}

static void test_a_lost_entry_is_published_again(void **state)
{
    struct member *one = enter("one", ""), *other = enter("other", "");

    (void)state;
    publish(one, "here");
    await_event(other, LEND_DIRECTORY_CAME, "one", "here");
    etcd_control(&etcd, NULL, NULL, (const char *const[]){"del", "lend/agents/one", NULL});
    await_event(other, LEND_DIRECTORY_LEFT, "one", NULL);
    await_event(other, LEND_DIRECTORY_CAME, "one", "here");
    leave(one);
    leave(other);
}

/* --- what is not ours --- */

static void test_garbage_does_no_harm(void **state)
{
    struct member *one = enter("one", ""), *other = enter("other", "");

    (void)state;
    etcd_control(&etcd, NULL, NULL,
                 (const char *const[]){"put", "lend/agents/garbage", "LNDE no entry", NULL});
    await_warning(other, 1);
    assert_int_equal(find_status(other, "garbage"), LEND_E_CORRUPT);
    etcd_control(&etcd, NULL, NULL, (const char *const[]){"put", "lend/agents/empty", "", NULL});
    await_warning(other, 2);
    assert_int_equal(find_status(other, "empty"), LEND_E_CORRUPT);
    etcd_control(&etcd, NULL, NULL,
                 (const char *const[]){"put", "lend/agents/bad\nname", "value", NULL});
    etcd_control(
        &etcd, NULL, NULL,
        (const char *const[]){"put",
                              "lend/agents/a-name-that-no-agent-can-have-because-it-is-longer-"
                              "than-sixty-three-bytes",
                              "value", NULL});

    /* An entry of one agent under the name of another, and a damaged one. */
    publish(one, "good");
    await_event(other, LEND_DIRECTORY_CAME, "one", "good");
    etcd_control(&etcd, NULL, "entry",
                 (const char *const[]){"get", "lend/agents/one", "--print-value-only", NULL});
    char path[80];
    (void)snprintf(path, sizeof path, "%s/entry", etcd.folder);
    FILE *file = fopen(path, "r+");
    assert_non_null(file);
    assert_int_equal(fseek(file, -1, SEEK_END), 0);
    assert_int_equal(ftruncate(fileno(file), ftell(file)), 0); /* etcdctl's newline */
    (void)fclose(file);
    etcd_control(&etcd, "entry", NULL, (const char *const[]){"put", "lend/agents/false", NULL});
    await_warning(other, 3);
    assert_int_equal(find_status(other, "false"), LEND_E_CORRUPT);
    publish(one, "still good");
    await_event(other, LEND_DIRECTORY_CHANGED, "one", "still good");
    assert_int_equal(other->count, 2); /* and nothing of all that was told */

    struct member *late = enter("late", "");
    await_event(late, LEND_DIRECTORY_CAME, "one", "still good");
    assert_int_equal(late->count, 1);
    leave(late);
    leave(one);
    leave(other);
    etcd_control(&etcd, NULL, NULL, (const char *const[]){"del", "lend/agents/", "--prefix", NULL});
}

/* For three times its time to live, which is the time that is meant here. */
static void test_an_entry_that_changes_all_the_time_lives(void **state)
{
    struct member *one = enter("one", ""), *other = enter("other", "");
    struct timespec now, end;
    char text[16];
    unsigned changes = 0;

    (void)state;
    publish(one, "0");
    await_event(other, LEND_DIRECTORY_CAME, "one", "0");
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += 6;
    do {
        (void)snprintf(text, sizeof text, "%u", ++changes);
        publish(one, text);
        await_event(other, LEND_DIRECTORY_CHANGED, "one", text); /* and not LEFT */
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec < end.tv_sec && changes < EVENTS_MAX - 2);
    assert_true(changes > 0);
    leave(one);
    leave(other);
}

static void test_what_is_too_large_is_refused(void **state)
{
    enum { MANY = 60000 };
    uint8_t *memory = malloc((size_t)MANY * 64);
    struct member *one = make_member("one");
    struct lend_directory_config config = config_of(one, url_of(""));
    struct lend_error error = {0};

    (void)state;
    assert_non_null(memory);
    config.time_to_live_ns = 60 * SECOND; /* to encode as much takes a while */
    enter_with(one, &config);
    publish(one, "small");
    (void)lend_pages(one->agent, memory, MANY);
    assert_int_equal(lend_directory_publish(one->directory, &error), LEND_E_LIMIT);
    assert_non_null(strstr(error.message, "--max-request-bytes (1.5 MiB,"));
    expect_found(one, "one", "small"); /* as it was */
    leave(one);
    free(memory);
}

/* --- entering --- */

static void expect_no_entry(struct member *member, const char *url, const char *plugin,
                            enum lend_status expected)
{
    struct lend_directory_config config = config_of(member, url);
    struct lend_directory *directory = NULL;
    struct lend_error error = {0};

    config.timeout_ns = SECOND;
    if (plugin != NULL)
        config.plugin = plugin;
    enum lend_status status = lend_directory_open(member->agent, &config, &directory, &error);
    if (status != expected)
        fail_msg("%s: %s, not %s: %s", url != NULL ? url : "", lend_status_name(status),
                 lend_status_name(expected), error.message);
    assert_null(directory);
    assert_true(error.message[0] != '\0');
}

/* A port where somebody listens, and says nothing. */
static int listen_silently(int *out_port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, bytes), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &bytes), 0);
    *out_port = ntohs(address.sin_port);
    return fd;
}

static void test_what_cannot_be_entered_says_why(void **state)
{
    struct member *one = make_member("one");
    struct lend_directory_config config = config_of(one, url_of(""));
    struct lend_error error = {0};
    char url[256];
    int port;

    (void)state;
    expect_no_entry(one, "consul://127.0.0.1:1", NULL, LEND_E_UNSUPPORTED);
    expect_no_entry(one, NULL, NULL, LEND_E_INVALID);
    expect_no_entry(one, "etcd://", NULL, LEND_E_INVALID);
    expect_no_entry(one, "etcd://host", NULL, LEND_E_INVALID);
    expect_no_entry(one, "etcd://user@host:1", NULL, LEND_E_INVALID);
    expect_no_entry(one, url_of(""), "/nowhere/lend-etcd.so", LEND_E_ABSENT);
    expect_no_entry(one, url_of(""), "libm.so.6", LEND_E_ABSENT);
    (void)snprintf(url, sizeof url, "etcd://127.0.0.1:%d", free_port());
    expect_no_entry(one, url, NULL, LEND_E_NO_PATH);
    (void)snprintf(url, sizeof url, "etcds://%s", etcd.client); /* no TLS there */
    expect_no_entry(one, url, NULL, LEND_E_NO_PATH);
    (void)snprintf(url, sizeof url, "etcd://%s", etcd.peer); /* HTTP, and not the gateway */
    expect_no_entry(one, url, NULL, LEND_E_NO_PATH);
    int silent = listen_silently(&port);
    (void)snprintf(url, sizeof url, "etcd://127.0.0.1:%d", port);
    expect_no_entry(one, url, NULL, LEND_E_TIMEOUT);

    config.struct_size--;
    assert_int_equal(lend_directory_open(one->agent, &config, &one->directory, &error),
                     LEND_E_VERSION);
    config = config_of(one, url_of(""));
    config.time_to_live_ns = SECOND - 1;
    assert_int_equal(lend_directory_open(one->agent, &config, &one->directory, &error),
                     LEND_E_INVALID);
    assert_int_equal(lend_directory_publish(NULL, &error), LEND_E_INVALID);

    /* The first that answers of several will do. */
    (void)snprintf(url, sizeof url, "etcd://127.0.0.1:%d,127.0.0.1:%d,%s", free_port(), port,
                   etcd.client);
    config = config_of(one, url);
    config.timeout_ns = 6 * SECOND;
    enter_with(one, &config);
    publish(one, "by the third");
    expect_found(one, "one", "by the third");
    struct lend_found *found = NULL;
    assert_int_equal(lend_directory_find(one->directory, "", 0, &found, &error), LEND_E_INVALID);
    assert_int_equal(lend_directory_find(one->directory, "bad\n", 0, &found, &error),
                     LEND_E_INVALID);
    leave(one);
    (void)close(silent);
    lend_directory_close(NULL);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_published_is_found_and_kept_up_to_date),
        cmocka_unit_test(test_who_comes_later_is_told_of_who_is_there),
        cmocka_unit_test(test_who_waits_for_an_agent_finds_it_when_it_comes),
        cmocka_unit_test(test_a_name_belongs_to_who_had_it_first),
        cmocka_unit_test(test_a_dead_agent_goes_and_its_successor_comes),
        cmocka_unit_test(test_a_stopped_etcd_is_survived),
        cmocka_unit_test(test_a_watch_leaves_a_member_that_has_stopped),
        cmocka_unit_test(test_a_killed_etcd_is_survived),
        cmocka_unit_test(test_what_was_compacted_is_listed_anew),
        cmocka_unit_test(test_a_lost_entry_is_published_again),
        cmocka_unit_test(test_garbage_does_no_harm),
        cmocka_unit_test(test_what_is_too_large_is_refused),
        cmocka_unit_test(test_an_entry_that_changes_all_the_time_lives),
        cmocka_unit_test(test_what_cannot_be_entered_says_why),
    };

    if (argc == 4 && strcmp(argv[1], "live") == 0)
        return live(argv[2], argv[3]);
    if (LEND_TEST_ETCD_PLUGIN[0] == '\0') {
        (void)printf("SKIP: this build has no plugin for etcd (libcurl4-openssl-dev)\n");
        return 77;
    }
    if (!etcd_is_installed()) {
        (void)printf("SKIP: etcd or etcdctl is not installed (etcd-server, etcd-client)\n");
        return 77;
    }
    if (argc == 2)
        cmocka_set_test_filter(argv[1]); /* by hand */
    etcd_start(&etcd);
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    etcd_end(&etcd);
    return failures;
}
