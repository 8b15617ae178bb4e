/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_COMMANDS_H
#define LEND_TOOL_COMMANDS_H

/* The sub-commands: argv[0] is "lend NAME"; each returns the exit code. */
int demo_main(int argc, char **argv);
int serve_main(int argc, char **argv);
int pull_main(int argc, char **argv);
int explain_main(int argc, char **argv);
int top_main(int argc, char **argv);
int metrics_main(int argc, char **argv);
int bench_main(int argc, char **argv);
int info_main(int argc, char **argv);
int doctor_main(int argc, char **argv);

#endif
