/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what transport/ucx/door.h says of UCX's ABI is what UCX's own headers say.
 * Method: where those are installed (Debian: libucx-dev), sizes, offsets and numbers are compared
 * when this is compiled; and where its library is, every function is looked up.
 */
#include "transport/ucx/door.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#if __has_include(<ucp/api/ucp.h>)
#include <ucp/api/ucp.h>

#define SAME_NUMBER(ours, theirs) _Static_assert((long long)(ours) == (long long)(theirs), #ours)
#define SAME_SIZE(ours, theirs)   _Static_assert(sizeof(ours) == sizeof(theirs), #ours)
#define SAME_PLACE(ours, field, theirs, their_field)                                               \
    _Static_assert(offsetof(ours, field) == offsetof(theirs, their_field), #ours "." #field)

SAME_SIZE(lend_ucx_status, ucs_status_t);
SAME_NUMBER(LEND_UCX_OK, UCS_OK);
SAME_NUMBER(LEND_UCX_IN_PROGRESS, UCS_INPROGRESS);
SAME_NUMBER(LEND_UCX_NO_MEMORY, UCS_ERR_NO_MEMORY);
SAME_NUMBER(LEND_UCX_UNREACHABLE, UCS_ERR_UNREACHABLE);
SAME_NUMBER(LEND_UCX_NO_ELEMENT, UCS_ERR_NO_ELEM);
SAME_NUMBER(LEND_UCX_BUSY, UCS_ERR_BUSY);
SAME_NUMBER(LEND_UCX_CANCELED, UCS_ERR_CANCELED);
SAME_NUMBER(LEND_UCX_STATUS_LAST, UCS_ERR_LAST);

SAME_NUMBER(LEND_UCX_CONTEXT_FEATURES, UCP_PARAM_FIELD_FEATURES);
SAME_NUMBER(LEND_UCX_FEATURE_WAKEUP, UCP_FEATURE_WAKEUP);
SAME_NUMBER(LEND_UCX_FEATURE_MESSAGES, UCP_FEATURE_AM);
SAME_SIZE(struct lend_ucx_context_params, ucp_params_t);
SAME_PLACE(struct lend_ucx_context_params, features, ucp_params_t, features);
SAME_PLACE(struct lend_ucx_context_params, name, ucp_params_t, name);

SAME_NUMBER(LEND_UCX_WORKER_THREADS, UCP_WORKER_PARAM_FIELD_THREAD_MODE);
SAME_NUMBER(LEND_UCX_WORKER_EVENTS, UCP_WORKER_PARAM_FIELD_EVENTS);
SAME_NUMBER(LEND_UCX_WORKER_FLAGS, UCP_WORKER_PARAM_FIELD_FLAGS);
SAME_NUMBER(LEND_UCX_THREADS_SERIALIZED, UCS_THREAD_MODE_SERIALIZED);
SAME_NUMBER(LEND_UCX_WAKEUP_SENT, UCP_WAKEUP_TX);
SAME_NUMBER(LEND_UCX_WAKEUP_RECEIVED, UCP_WAKEUP_RX);
SAME_NUMBER(LEND_UCX_WORKER_QUIET_LEAKS, UCP_WORKER_FLAG_IGNORE_REQUEST_LEAK);
SAME_SIZE(struct lend_ucx_worker_params, ucp_worker_params_t);
SAME_PLACE(struct lend_ucx_worker_params, thread_mode, ucp_worker_params_t, thread_mode);
SAME_PLACE(struct lend_ucx_worker_params, events, ucp_worker_params_t, events);
SAME_PLACE(struct lend_ucx_worker_params, flags, ucp_worker_params_t, flags);

SAME_NUMBER(LEND_UCX_QUERY_ADDRESS, UCP_WORKER_ATTR_FIELD_ADDRESS);
SAME_NUMBER(LEND_UCX_QUERY_ADDRESS_FLAGS, UCP_WORKER_ATTR_FIELD_ADDRESS_FLAGS);
SAME_NUMBER(LEND_UCX_QUERY_MESSAGE_HEADER, UCP_WORKER_ATTR_FIELD_MAX_AM_HEADER);
SAME_NUMBER(LEND_UCX_ADDRESS_NET_ONLY, UCP_WORKER_ADDRESS_FLAG_NET_ONLY);
SAME_SIZE(struct lend_ucx_worker_attributes, ucp_worker_attr_t);
SAME_PLACE(struct lend_ucx_worker_attributes, address_flags, ucp_worker_attr_t, address_flags);
SAME_PLACE(struct lend_ucx_worker_attributes, address, ucp_worker_attr_t, address);
SAME_PLACE(struct lend_ucx_worker_attributes, address_length, ucp_worker_attr_t, address_length);
SAME_PLACE(struct lend_ucx_worker_attributes, max_am_header, ucp_worker_attr_t, max_am_header);

SAME_NUMBER(LEND_UCX_ENDPOINT_ADDRESS, UCP_EP_PARAM_FIELD_REMOTE_ADDRESS);
SAME_NUMBER(LEND_UCX_ENDPOINT_ERROR_MODE, UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE);
SAME_NUMBER(LEND_UCX_ENDPOINT_ERROR_HANDLER, UCP_EP_PARAM_FIELD_ERR_HANDLER);
SAME_NUMBER(LEND_UCX_ERROR_MODE_PEER, UCP_ERR_HANDLING_MODE_PEER);
SAME_NUMBER(LEND_UCX_CLOSE_FORCE, UCP_EP_CLOSE_FLAG_FORCE);
SAME_SIZE(struct lend_ucx_endpoint_params, ucp_ep_params_t);
SAME_PLACE(struct lend_ucx_endpoint_params, address, ucp_ep_params_t, address);
SAME_PLACE(struct lend_ucx_endpoint_params, err_mode, ucp_ep_params_t, err_mode);
SAME_PLACE(struct lend_ucx_endpoint_params, error_callback, ucp_ep_params_t, err_handler.cb);
SAME_PLACE(struct lend_ucx_endpoint_params, error_argument, ucp_ep_params_t, err_handler.arg);
SAME_PLACE(struct lend_ucx_endpoint_params, flags, ucp_ep_params_t, flags);
SAME_PLACE(struct lend_ucx_endpoint_params, local_sockaddr, ucp_ep_params_t, local_sockaddr);

SAME_NUMBER(LEND_UCX_HANDLER_ID, UCP_AM_HANDLER_PARAM_FIELD_ID);
SAME_NUMBER(LEND_UCX_HANDLER_FLAGS, UCP_AM_HANDLER_PARAM_FIELD_FLAGS);
SAME_NUMBER(LEND_UCX_HANDLER_CALLBACK, UCP_AM_HANDLER_PARAM_FIELD_CB);
SAME_NUMBER(LEND_UCX_HANDLER_ARGUMENT, UCP_AM_HANDLER_PARAM_FIELD_ARG);
SAME_NUMBER(LEND_UCX_HANDLER_WHOLE, UCP_AM_FLAG_WHOLE_MSG);
SAME_NUMBER(LEND_UCX_HANDLER_PERSISTENT, UCP_AM_FLAG_PERSISTENT_DATA);
SAME_SIZE(struct lend_ucx_handler, ucp_am_handler_param_t);
SAME_PLACE(struct lend_ucx_handler, id, ucp_am_handler_param_t, id);
SAME_PLACE(struct lend_ucx_handler, flags, ucp_am_handler_param_t, flags);
SAME_PLACE(struct lend_ucx_handler, callback, ucp_am_handler_param_t, cb);
SAME_PLACE(struct lend_ucx_handler, argument, ucp_am_handler_param_t, arg);

SAME_NUMBER(LEND_UCX_RECEIVED_DATA, UCP_AM_RECV_ATTR_FLAG_DATA);
SAME_NUMBER(LEND_UCX_RECEIVED_RENDEZVOUS, UCP_AM_RECV_ATTR_FLAG_RNDV);
SAME_SIZE(struct lend_ucx_received, ucp_am_recv_param_t);
SAME_PLACE(struct lend_ucx_received, recv_attr, ucp_am_recv_param_t, recv_attr);

SAME_NUMBER(LEND_UCX_OPERATION_CALLBACK, UCP_OP_ATTR_FIELD_CALLBACK);
SAME_NUMBER(LEND_UCX_OPERATION_USER_DATA, UCP_OP_ATTR_FIELD_USER_DATA);
SAME_NUMBER(LEND_UCX_OPERATION_DATATYPE, UCP_OP_ATTR_FIELD_DATATYPE);
SAME_NUMBER(LEND_UCX_OPERATION_FLAGS, UCP_OP_ATTR_FIELD_FLAGS);
SAME_NUMBER(LEND_UCX_OPERATION_MEMORY_TYPE, UCP_OP_ATTR_FIELD_MEMORY_TYPE);
SAME_NUMBER(LEND_UCX_OPERATION_LENGTH, UCP_OP_ATTR_FIELD_RECV_INFO);
SAME_NUMBER(LEND_UCX_SEND_EAGER, UCP_AM_SEND_FLAG_EAGER);
SAME_NUMBER(LEND_UCX_SEND_RENDEZVOUS, UCP_AM_SEND_FLAG_RNDV);
SAME_NUMBER(LEND_UCX_DATATYPE_BYTES, ucp_dt_make_contig(1));
SAME_NUMBER(LEND_UCX_DATATYPE_PIECES, UCP_DATATYPE_IOV);
SAME_NUMBER(LEND_UCX_MEMORY_HOST, UCS_MEMORY_TYPE_HOST);
SAME_SIZE(struct lend_ucx_operation, ucp_request_param_t);
SAME_PLACE(struct lend_ucx_operation, flags, ucp_request_param_t, flags);
SAME_PLACE(struct lend_ucx_operation, callback, ucp_request_param_t, cb);
SAME_PLACE(struct lend_ucx_operation, datatype, ucp_request_param_t, datatype);
SAME_PLACE(struct lend_ucx_operation, user_data, ucp_request_param_t, user_data);
SAME_PLACE(struct lend_ucx_operation, memory_type, ucp_request_param_t, memory_type);
SAME_PLACE(struct lend_ucx_operation, received_length, ucp_request_param_t, recv_info);

SAME_SIZE(struct lend_ucx_piece, ucp_dt_iov_t);
SAME_SIZE(struct lend_ucx_piece, struct iovec); /* which we hand over as such */
SAME_PLACE(struct lend_ucx_piece, buffer, struct iovec, iov_base);
SAME_PLACE(struct lend_ucx_piece, length, struct iovec, iov_len);
SAME_PLACE(struct lend_ucx_piece, length, ucp_dt_iov_t, length);

static void test_layouts_are_those_of_the_headers(void **state)
{
    (void)state;
    print_message("compared with the headers of UCX %d.%d\n", UCP_API_MAJOR, UCP_API_MINOR);
}
#else
static void test_layouts_are_those_of_the_headers(void **state)
{
    (void)state;
    print_message("SKIP: no ucp/api/ucp.h to compare with (Debian: libucx-dev)\n");
    skip();
}
#endif

static void test_installed_library_has_every_function(void **state)
{
    struct lend_ucx_ops ops;
    struct lend_error error = {0};

    (void)state;
    if (lend_ucx_load("libucp.so.0", &ops, &error) != LEND_OK) {
        print_message("SKIP: %s\n", error.message);
        assert_null(strstr(error.message, "has no function"));
        skip();
    }
    assert_true(strlen(ops.version_string()) > 0);
    assert_true(strlen(ops.status_string(LEND_UCX_BUSY)) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layouts_are_those_of_the_headers),
        cmocka_unit_test(test_installed_library_has_every_function),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
