/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/doctor.h"

#include "tool/commands.h"
#include "tool/options.h"
#include "tool/output.h"
#include "tool/trouble.h"

#include <signal.h>
#include <stdio.h>

/* `lend doctor': run the checks, tell what they found and what to do, and end with the worst. */

enum {
    KEY_DIRECTORY = 0x300,
    KEY_BYTES,
    KEY_HUGE,
    KEY_PEERS,
    KEY_MODE,
    KEY_PID,
    KEY_JSON,
    KEY_LISTEN,
    KEY_SECRET,
    KEY_ETCD,
    KEY_UCX_DEVICES,
    KEY_UCX_LIBRARY,
    KEY_VERBS_DEVICES,
    MODE_DEFAULT = 0600,
    PEERS_MAX = 1 << 20,
    FINDINGS_MAX = 64,
};

struct doctor {
    struct exam exam;
    bool is_json;
    uint32_t count;
    const char *ids[FINDINGS_MAX];
    struct finding findings[FINDINGS_MAX];
};

static error_t parse(int key, char *text, struct argp_state *state)
{
    struct doctor *doctor = state->input;
    struct exam *exam = &doctor->exam;

    switch (key) {
    case KEY_DIRECTORY: exam->directory = text; return 0;
    case KEY_BYTES:
        exam->bytes = options_number(state, "bytes", text, UINT64_C(1) << 46, true);
        return 0;
    case KEY_HUGE: exam->is_huge = true; return 0;
    case KEY_PEERS: exam->peers = options_number(state, "peers", text, PEERS_MAX, false); return 0;
    case KEY_MODE:
        if (sscanf(text, "%o", &exam->socket_mode) != 1 || exam->socket_mode > 0777)
            argp_error(state, "--socket-mode is '%s', and must be such as 0660", text);
        return 0;
    case KEY_PID:
        exam->peer = (pid_t)options_number(state, "pid", text, INT32_MAX, false);
        return 0;
    case KEY_LISTEN: exam->listen = text; return 0;
    case KEY_SECRET: exam->secret_file = text; return 0;
    case KEY_ETCD: exam->etcd = text; return 0;
    case KEY_UCX_DEVICES: exam->ucx_devices = text; return 0;
    case KEY_UCX_LIBRARY: exam->ucx_library = text; return 0;
    case KEY_VERBS_DEVICES: exam->verbs_devices = text; return 0;
    case KEY_JSON: doctor->is_json = true; return 0;
    case ARGP_KEY_ARG: argp_error(state, "'%s' is not expected", text); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp parser = {
    .options =
        (const struct argp_option[]){
            {"directory", KEY_DIRECTORY, "DIR", 0,
             "The folder of the sockets, as local_directory has it (default: the library's)", 0},
            {"bytes", KEY_BYTES, "BYTES", 0, "So much is to be lent, as a number or as 512M, 2G",
             0},
            {"huge", KEY_HUGE, NULL, 0, "In huge pages", 0},
            {"peers", KEY_PEERS, "N", 0, "So many peers are to be served (default: 64)", 0},
            {"socket-mode", KEY_MODE, "OCTAL", 0,
             "Permission bits of the socket, as local_mode has them (default: 0600)", 0},
            {"listen", KEY_LISTEN, "ADDR[:PORT]", 0, "An agent is to listen there", 0},
            {"secret-file", KEY_SECRET, "FILE", 0, "The secret that agents are to share", 0},
            {"etcd", KEY_ETCD, "URL", 0, "Agents are to find each other there: etcd://HOST:PORT",
             0},
            {"ucx-devices", KEY_UCX_DEVICES, "DEVICE[,DEVICE...]", 0,
             "What transport ucx is to use: eth0, mlx5_0:1", 0},
            {"verbs-devices", KEY_VERBS_DEVICES, "DEVICE[:PORT[:GID]][,...]", 0,
             "What transport verbs is to use: mlx5_0, rxe0:1", 0},
            {"ucx-library", KEY_UCX_LIBRARY, "FILE", 0, "The libucp that it is to load", 0},
            {"pid", KEY_PID, "PID", 0, "A process that is to be a peer, or that has one", 0},
            {"json", KEY_JSON, NULL, 0, "Print the result as JSON", 0},
            {0}},
    .parser = parse,
    .doc = "Check what lend needs of this machine and this account, and say what to do where "
           "something is wrong.\v"
           "The exit code is 0 if all is well, 1 if there are warnings alone (lend works, but a "
           "faster path or something beside it does not), and 2 if there is a fault; 3 if the "
           "result could not be told, and 64 for a usage error.",
};

static void run(struct doctor *doctor, const struct check *checks)
{
    for (; checks->id != NULL && doctor->count < FINDINGS_MAX; checks++) {
        doctor->ids[doctor->count] = checks->id;
        checks->run(&doctor->exam, &doctor->findings[doctor->count++]);
    }
}

static const char *severity_name(enum severity severity)
{
    static const char *const names[] = {"OK", "WARNING", "FAULT"};

    return names[severity];
}

static enum lend_status print_json(const struct doctor *doctor, enum severity worst,
                                   struct lend_error *error)
{
    json_t *rows = json_array();

    for (uint32_t i = 0; i < doctor->count; i++) {
        const struct finding *finding = &doctor->findings[i];

        (void)json_array_append_new(rows,
                                    json_pack("{s:s, s:s, s:s, s:s}", "check", doctor->ids[i],
                                              "severity", severity_name(finding->severity), "found",
                                              finding->found, "remedy", finding->remedy));
    }
    return json_show(json_pack("{s:s, s:s, s:s, s:o}", "version", lend_version(), "directory",
                               doctor->exam.directory, "severity", severity_name(worst), "checks",
                               rows),
                     false, error);
}

static void print_table(const struct doctor *doctor, const uint32_t *counts)
{
    struct libscols_table *table =
        table_create((const char *const[]){"check", "result", "found"}, 3);

    for (uint32_t i = 0; i < doctor->count; i++)
        table_row(table,
                  (const char *const[]){doctor->ids[i], severity_name(doctor->findings[i].severity),
                                        doctor->findings[i].found});
    table_print(table);
    for (uint32_t i = 0; i < doctor->count; i++) {
        const struct finding *finding = &doctor->findings[i];

        if (finding->severity != SEVERITY_OK)
            (void)printf("%s: %s\n    remedy: %s\n", doctor->ids[i],
                         severity_name(finding->severity), finding->remedy);
    }
    (void)printf("%u checks: %u OK, %u warnings, %u faults\n", doctor->count, counts[SEVERITY_OK],
                 counts[SEVERITY_WARNING], counts[SEVERITY_FAULT]);
}

int doctor_main(int argc, char **argv)
{
    static struct doctor doctor; /* static, and zero, for its size */
    struct lend_error error = {0};
    char directory[64];
    char word[4096];
    uint32_t counts[SEVERITY_FAULT + 1] = {0};
    enum severity worst = SEVERITY_OK;

    doctor.exam = (struct exam){
        .probe = &probe_real, .socket_mode = MODE_DEFAULT, .peers = DOCTOR_PEERS_DEFAULT};
    argp_err_exit_status = DOCTOR_EXIT_USAGE;
    (void)argp_parse(&parser, argc, argv, 0, NULL, &doctor);
    if (doctor.exam.directory == NULL) {
        probe_directory(&probe_real, directory, sizeof directory);
        doctor.exam.directory = directory;
        doctor.exam.is_default = true;
    }
    doctor.exam.word = shell_word(word, sizeof word, doctor.exam.directory);

    (void)signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes is to be found, not to end us */
    run(&doctor, checks_folder);
    run(&doctor, checks_limits);
    run(&doctor, checks_kernel);
    run(&doctor, checks_network);
    run(&doctor, checks_rdma);
    run(&doctor, checks_process);
    if (doctor.exam.peer != 0)
        run(&doctor, checks_peer);
    for (uint32_t i = 0; i < doctor.count; i++) {
        counts[doctor.findings[i].severity]++;
        worst = doctor.findings[i].severity > worst ? doctor.findings[i].severity : worst;
    }

    if (!doctor.is_json)
        print_table(&doctor, counts);
    else if (print_json(&doctor, worst, &error) != LEND_OK) {
        trouble_tell(&error);
        return DOCTOR_EXIT_TROUBLE;
    }
    return (int)worst;
}
