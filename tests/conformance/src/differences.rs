//! Where other brokers differ, and by which clause: what a verdict alone does not say.
//!
//! Clauses are those of MQTT 5.0 unless 3.1.1 is named. A test stands with the cause that it fails for
//! first.

/// Why a broker fails a test.
pub(crate) struct Difference {
    /// The tests.
    pub(crate) tests: &'static [&'static str],
    /// What the clause says, and what the broker does instead.
    pub(crate) why: &'static str,
}

/// Eclipse Mosquitto 2.0.
pub(crate) const MOSQUITTO: &[Difference] = &[
    Difference {
        tests: &["mqtt5_1_5_5_1_a_remaining_length_longer_than_it_need_be_is_refused"],
        why: "1.5.5-1 wants a variable byte integer as short as may be; a longer remaining \
              length is taken.",
    },
    Difference {
        tests: &["mqtt_2_1_3_1_reserved_flags_that_are_wrong_end_the_connection"],
        why: "2.1.3-1 (3.1.1: 2.2.2-2) ends the connection for wrong flags of the fixed header; \
              those of acknowledgements are not looked at.",
    },
    Difference {
        tests: &["mqtt_2_2_1_packet_identifiers_come_round_with_a_gap_in_flight"],
        why: "By 2.2.1-4 (3.1.1: 2.3.1-4) a new message gets an identifier that is not in use; \
              the counter comes round without a look at what is still in flight.",
    },
    Difference {
        tests: &["mqtt_4_13_1_1_a_body_that_is_too_short_or_too_long_ends_the_connection"],
        why: "4.13.1-1 (3.1.1: 4.8.0-1) ends the connection for a malformed packet; a PINGREQ \
              with a body is answered.",
    },
    Difference {
        tests: &["mqtt_4_13_1_1_a_duplicate_of_qos_0_ends_the_connection"],
        why: "3.3.1-2 forbids DUP at QoS 0, and 4.13.1-1 (3.1.1: 4.8.0-1) ends the connection \
              for it; the flag is not looked at there.",
    },
    Difference {
        tests: &["mqtt_4_13_1_1_packets_that_only_a_server_sends_end_the_connection"],
        why: "4.13.1-1 (3.1.1: 4.8.0-1) ends the connection for a protocol error; a SUBACK from \
              a client is passed over.",
    },
    Difference {
        tests: &[
            "mqtt5_3_3_2_14_a_wildcard_in_a_response_topic_ends_the_connection",
            "mqtt5_4_13_1_1_each_vector_that_is_wrong_ends_the_connection",
        ],
        why: "3.3.2-14 forbids wildcards in a response topic; they are not looked for.",
    },
    Difference {
        tests: &["mqtt5_3_1_2_11_10_data_without_a_method_is_a_protocol_error"],
        why: "3.1.2.11.10 makes authentication data without a method a protocol error; the data \
              are passed over.",
    },
    Difference {
        tests: &[
            "mqtt5_3_14_2_1_a_reason_that_is_none_leaves_the_will",
            "mqtt5_3_14_2_1_an_error_leaves_the_will",
        ],
        why: "By 3.1.2-8 and 3.14.4-3 only DISCONNECT 0x00 takes the will away; here every code \
              but 0x04 does.",
    },
    Difference {
        tests: &[
            "mqtt5_3_1_2_5_without_a_session_to_outlive_it_there_is_no_delay",
            "mqtt5_3_14_2_2_2_a_session_that_disconnect_ends_sends_its_delayed_will",
        ],
        why: "3.1.2-8 publishes a will when its delay is over or its session ends, whichever \
              comes first; a session that ends with its connection does not shorten the delay.",
    },
    Difference {
        tests: &[
            "mqtt5_3_1_2_5_a_clean_start_sends_the_delayed_will",
            "mqtt5_3_1_4_a_takeover_that_resumes_sends_a_will_without_delay",
            "mqtt5_3_1_4_a_takeover_with_clean_start_sends_the_delayed_will",
        ],
        why: "By 3.1.2-8 a new connection spares a will only if it comes before the delay is \
              over and goes on with the session; here a clean start drops a delayed will, and a \
              takeover that resumes one without delay.",
    },
    Difference {
        tests: &["mqtt5_3_1_2_24_a_message_too_large_for_its_receiver_is_not_sent"],
        why: "3.1.2-24 counts the whole packet; the bound is off by one, so that a PUBLISH of \
              one byte too many is sent.",
    },
    Difference {
        tests: &["mqtt5_3_1_2_24_a_suback_is_no_larger_than_the_client_takes"],
        why: "3.1.2-24 holds for every packet; the size of a SUBACK is not checked.",
    },
    Difference {
        tests: &[
            "mqtt5_3_3_4_9_no_more_than_the_receive_maximum_is_in_flight_at_qos_1",
            "mqtt5_3_3_4_9_no_more_than_the_receive_maximum_is_in_flight_at_qos_2",
        ],
        why: "3.3.4-9 bounds what is in flight by the client's Receive Maximum; when the oldest \
              message is acknowledged, a whole window of further ones is sent.",
    },
    Difference {
        tests: &[
            "mqtt5_4_4_retransmission_keeps_to_a_smaller_receive_maximum",
            "mqtt5_4_4_retransmission_of_qos_2_keeps_to_a_window_of_1",
        ],
        why: "3.3.4-9 holds for what is sent again, too; all of it is sent at once, though the \
              new connection's Receive Maximum is smaller.",
    },
    Difference {
        tests: &["mqtt5_3_3_4_a_client_beyond_the_servers_receive_maximum_is_disconnected"],
        why: "By 3.3.4 a server disconnects a client that goes beyond its Receive Maximum \
              (0x93); here the message alone is refused, by PUBREC 0x97.",
    },
    Difference {
        tests: &[
            "mqtt5_4_3_3_5_an_expiry_does_not_end_an_exchange_past_pubrec",
            "mqtt5_4_3_3_7_a_message_that_was_sent_does_not_expire",
        ],
        why: "By 4.3.3-7 a message that was sent does not expire; on a new connection what is in \
              flight is dropped if its interval is over, and with it the PUBREL that is owed.",
    },
    Difference {
        tests: &["mqtt5_3_8_3_4_no_local_on_a_shared_subscription_ends_the_connection"],
        why: "3.8.3-4 makes No Local on a shared subscription a protocol error; it is granted.",
    },
    Difference {
        tests: &["mqtt5_3_8_4_3_a_second_subscription_has_its_own_options"],
        why: "3.8.4-3 replaces a subscription, options and all; No Local stays as it was.",
    },
    Difference {
        tests: &["mqtt_3_3_4_2_overlapping_subscriptions_deliver_at_the_highest_qos"],
        why: "3.1.1: 3.3.5-1 delivers a message that several subscriptions match at the highest \
              QoS of them; the one copy that is sent has the QoS of another.",
    },
    Difference {
        tests: &[
            "mqtt5_4_8_2_1_a_share_name_that_is_missing_or_empty_is_refused",
            "mqtt5_4_8_2_2_a_share_name_with_a_wildcard_or_without_a_filter_is_refused",
        ],
        why: "4.8.2-1 and 4.8.2-2 want a share name and a filter behind $share/; without them \
              the filter is granted.",
    },
    Difference {
        tests: &["mqtt5_4_8_2_no_retained_message_for_a_shared_subscription"],
        why: "By 4.8.2 a shared subscription begins without retained messages; they are sent.",
    },
];

/// rumqttd 0.20.
pub(crate) const RUMQTTD: &[Difference] = &[
    Difference {
        tests: &[
            "mqtt5_1_5_5_1_a_property_length_longer_than_it_need_be_is_refused",
            "mqtt5_1_5_5_1_a_remaining_length_longer_than_it_need_be_is_refused",
        ],
        why: "1.5.5-1 wants a variable byte integer as short as may be; longer forms are taken.",
    },
    Difference {
        tests: &[
            "mqtt5_1_5_7_1_both_halves_of_a_string_pair_are_text",
            "mqtt_1_5_4_2_a_nul_in_a_topic_ends_the_connection",
            "mqtt_1_5_4_2_a_nul_in_connect_is_refused",
            "mqtt_4_7_3_2_nul_in_a_filter_ends_the_connection",
            "mqtt_4_7_3_2_nul_in_a_topic_name_ends_the_connection",
        ],
        why: "1.5.4-2 (3.1.1: 1.5.3-2) and 4.7.3-2 forbid U+0000 in text; it is not looked for.",
    },
    Difference {
        tests: &[
            "mqtt_1_5_4_3_a_byte_order_mark_stays_in_the_topic",
            "mqtt_1_5_4_3_a_byte_order_mark_tells_topics_apart",
        ],
        why: "1.5.4-3 (3.1.1: 1.5.3-3) keeps U+FEFF as it is; the router panics at any topic \
              whose first character takes several bytes, and from then on nobody is served.",
    },
    Difference {
        tests: &[
            "mqtt_2_1_3_1_reserved_flags_that_are_wrong_end_the_connection",
            "mqtt_3_6_1_1_other_flags_of_pubrel_end_the_connection",
            "mqtt_3_8_1_1_other_flags_of_subscribe_end_the_connection",
            "mqtt_3_10_1_1_other_flags_of_unsubscribe_end_the_connection",
            "mqtt_3_14_1_1_reserved_bits_are_checked",
        ],
        why: "2.1.3-1 (3.1.1: 2.2.2-2) and the clauses of each packet end the connection for \
              wrong flags of the fixed header; they are not looked at.",
    },
    Difference {
        tests: &["mqtt_2_2_1_identifier_0_ends_the_connection"],
        why: "2.2.1-3 (3.1.1: 2.3.1-1) has no identifier 0; it is refused in PUBLISH, but taken \
              in SUBSCRIBE.",
    },
    Difference {
        tests: &["mqtt_2_2_1_packet_identifiers_come_round_with_a_gap_in_flight"],
        why: "4.6.0-2 to 4.6.0-4 say nothing of the order of PUBCOMPs; one that is not for the \
              oldest exchange ends the connection, as does any acknowledgement out of order.",
    },
    Difference {
        tests: &[
            "mqtt_3_1_0_2_a_second_connect_ends_the_connection",
            "mqtt_4_13_1_1_packets_that_only_a_server_sends_end_the_connection",
        ],
        why: "3.1.0-2 and 4.13.1-1 (3.1.1: 4.8.0-1) end the connection for a second CONNECT and \
              for a packet that only a server sends; packets that were not expected are passed \
              over.",
    },
    Difference {
        tests: &["mqtt_4_13_1_1_a_body_that_is_too_short_or_too_long_ends_the_connection"],
        why: "4.13.1-1 (3.1.1: 4.8.0-1) ends a connection for a malformed packet; a PINGREQ with \
              a body is answered.",
    },
    Difference {
        tests: &["mqtt_4_13_1_1_a_duplicate_of_qos_0_ends_the_connection"],
        why: "3.3.1-2 forbids DUP at QoS 0, and 4.13.1-1 (3.1.1: 4.8.0-1) ends the connection \
              for it; the flag is not looked at there.",
    },
    Difference {
        tests: &["mqtt_3_1_2_2_an_unknown_level_is_refused"],
        why: "3.1.1: 3.1.2-2 answers an unknown level with CONNACK 1; the connection is closed \
              without a word.",
    },
    Difference {
        tests: &["mqtt_3_1_2_3_the_reserved_flag_is_checked"],
        why: "3.1.2-3 has the server check the reserved flag of CONNECT; it is not looked at.",
    },
    Difference {
        tests: &[
            "mqtt_3_1_2_9_no_wills_fields_without_the_flag",
            "mqtt_3_1_2_16_no_user_name_without_its_flag",
            "mqtt_3_1_2_18_no_password_without_its_flag",
            "mqtt_3_1_4_1_a_connect_of_another_form_ends_the_connection",
        ],
        why: "3.1.4-1 refuses a CONNECT of another form, and 3.1.2-16 and 3.1.2-18 (3.1.1: \
              3.1.2-18, 3.1.2-20) fields without their flags; what stands behind the fields that \
              the flags name is not looked at.",
    },
    Difference {
        tests: &["mqtt3_3_1_2_22_no_password_without_a_user_name"],
        why: "3.1.1: 3.1.2-22 has no password without a user name; it is taken, as MQTT 5.0 \
              allows.",
    },
    Difference {
        tests: &["mqtt_3_1_3_5_a_password_is_binary"],
        why: "3.1.3.6 (3.1.1: 3.1.3.5) has any bytes for a password; it is read as text, and a \
              client whose password is not UTF-8 is not let in.",
    },
    Difference {
        tests: &[
            "mqtt_3_1_3_11_an_ill_formed_will_topic_is_refused",
            "mqtt_3_1_3_a_will_topic_that_is_no_topic_name_is_refused",
        ],
        why: "3.1.3-11 (3.1.1: 3.1.3-10) and 4.7 want the will's topic to be a topic name in \
              UTF-8; it is taken unseen.",
    },
    Difference {
        tests: &[
            "mqtt3_4_8_0_1_malformed_packets_end_the_connection",
            "mqtt_3_3_2_2_a_wildcard_in_a_topic_name_ends_the_connection",
            "mqtt_4_7_3_1_an_empty_topic_name_ends_the_connection",
        ],
        why: "3.3.2-2 and 4.7.3-1 want a topic name to have no wildcard and at least one \
              character; neither is checked.",
    },
    Difference {
        tests: &[
            "mqtt_4_7_1_1_a_multi_level_wildcard_elsewhere_is_refused",
            "mqtt_4_7_1_2_a_single_level_wildcard_that_shares_its_level_is_refused",
            "mqtt_4_7_3_1_an_empty_filter_is_refused",
        ],
        why: "4.7.1-1, 4.7.1-2 (3.1.1: 4.7.1-2, 4.7.1-3) and 4.7.3-1 say how a filter is formed; \
              the check is there, but SUBSCRIBE does not use it, and any filter is granted.",
    },
    Difference {
        tests: &[
            "mqtt5_4_8_2_1_a_share_name_that_is_missing_or_empty_is_refused",
            "mqtt5_4_8_2_2_a_share_name_with_a_wildcard_or_without_a_filter_is_refused",
        ],
        why: "4.8.2-1 and 4.8.2-2 want a share name without wildcards and a filter behind \
              $share/; neither is checked.",
    },
    Difference {
        tests: &["mqtt5_3_3_2_14_a_wildcard_in_a_response_topic_ends_the_connection"],
        why: "3.3.2-14 forbids wildcards in a response topic; only that it is UTF-8 is checked.",
    },
    Difference {
        tests: &["mqtt_3_8_3_5_reserved_bits_of_the_options_end_the_connection"],
        why: "3.8.3-5 (3.1.1: 3.8.3-4) ends the connection for reserved bits of the options; \
              they are not looked at.",
    },
    Difference {
        tests: &["mqtt_3_10_3_2_an_unsubscribe_without_a_filter_ends_the_connection"],
        why: "3.10.3-2 wants at least one filter in UNSUBSCRIBE; without one it is passed over.",
    },
    Difference {
        tests: &[
            "mqtt5_2_2_2_2_user_properties_may_repeat_everywhere",
            "mqtt5_3_1_2_29_no_explanations_unless_asked",
            "mqtt5_3_11_2_1_unsuback_is_not_too_large_for_its_receiver",
            "mqtt5_3_11_2_2_unsuback_is_not_too_large_for_its_receiver",
            "mqtt5_3_11_3_1_the_codes_are_in_the_order_of_the_filters",
            "mqtt5_3_11_3_2_each_code_is_one_of_the_list",
            "mqtt_3_10_4_1_filters_are_compared_byte_by_byte",
            "mqtt_3_10_4_5_unsubscribe_is_answered_though_nothing_is_ended",
            "mqtt_3_10_4_6_each_filter_of_an_unsubscribe_is_ended",
        ],
        why: "3.10.4-4 to 3.10.4-6 and 3.11.3-1 answer each UNSUBSCRIBE with one UNSUBACK for \
              all of its filters; here there is one for each filter that was subscribed to, and \
              none for others.",
    },
    Difference {
        tests: &[
            "mqtt5_2_2_2_1_a_length_beyond_the_packet_ends_the_connection",
            "mqtt5_3_14_1_a_disconnect_of_a_reason_alone",
            "mqtt5_3_14_2_1_a_reason_that_is_none_leaves_the_will",
            "mqtt5_3_14_2_1_a_will_that_is_left_waits_for_its_delay",
            "mqtt_3_1_2_9_the_wills_fields_are_there",
        ],
        why: "A packet that ends where a property length is looked for is taken for one that is \
              still on its way, and so is lost in silence: a malformed one, which 4.13.1-1 ends \
              the connection for, and a DISCONNECT of a reason alone, which 3.14.2.2.1 allows.",
    },
    Difference {
        tests: &[
            "mqtt5_3_14_2_1_reason_4_leaves_the_will",
            "mqtt5_3_14_2_2_2_a_session_that_disconnect_ends_sends_its_delayed_will",
        ],
        why: "By 3.1.2-8 and 3.14.4-3 only DISCONNECT 0x00 takes the will away; here every \
              DISCONNECT does, 0x04 too.",
    },
    Difference {
        tests: &[
            "mqtt5_2_2_2_2_a_property_twice_ends_the_connection",
            "mqtt5_2_2_2_2_a_property_twice_in_a_will_is_refused",
            "mqtt5_2_2_2_2_a_property_twice_in_connect_is_refused",
            "mqtt5_3_14_2_2_a_disconnect_of_another_form_leaves_the_will",
            "mqtt5_4_13_1_1_each_vector_that_is_wrong_ends_the_connection",
        ],
        why: "2.2.2.2 and the properties of each packet make a property that comes twice a \
              protocol error; the last one counts.",
    },
    Difference {
        tests: &["mqtt5_2_2_2_1_a_property_cut_short_ends_the_connection"],
        why: "By 2.2.2 properties end where their length says, and 4.13.1-1 ends the connection \
              otherwise; the last property is read on beyond it.",
    },
    Difference {
        tests: &["mqtt5_3_1_2_11_values_that_do_not_exist_are_refused"],
        why: "3.1.2.11 makes values that a property does not have a protocol error; values are \
              not checked, nor Receive Maximum 0.",
    },
    Difference {
        tests: &[
            "mqtt5_3_1_2_11_2_a_session_outlives_a_shorter_absence",
            "mqtt5_3_1_2_11_2_the_expiry_of_the_newest_connect_holds",
            "mqtt5_3_1_3_7_an_assigned_identifier_is_told_and_can_be_used",
            "mqtt5_3_14_2_2_2_a_session_without_expiry_cannot_get_one",
            "mqtt5_3_14_2_2_2_an_expiry_in_disconnect_holds",
            "mqtt5_3_14_2_2_2_an_expiry_in_disconnect_prolongs",
            "mqtt5_3_14_2_2_2_disconnect_can_end_the_session",
            "mqtt5_4_1_0_2_a_session_ends_when_its_expiry_is_over",
            "mqtt5_4_1_0_2_a_session_without_expiry_ends_with_its_connection",
        ],
        why: "By 3.1.2-23 and 4.1.0-2 the Session Expiry Interval says how long a session lasts; \
              here Clean Start alone does, as in MQTT 3.1.1: with it the session ends with its \
              connection, without it never.",
    },
    Difference {
        tests: &[
            "mqtt5_3_1_2_24_a_connack_is_no_larger_than_the_client_takes",
            "mqtt5_3_1_2_24_a_message_too_large_for_its_receiver_is_not_sent",
            "mqtt5_3_1_2_24_a_message_too_large_for_one_reaches_the_others",
            "mqtt5_3_1_2_24_a_suback_is_no_larger_than_the_client_takes",
            "mqtt5_3_1_2_24_properties_and_identifiers_count_in_the_size",
            "mqtt5_3_1_2_25_a_message_that_was_too_large_counts_as_delivered",
            "mqtt5_3_1_2_25_what_waited_may_be_too_large_for_the_next_connection",
        ],
        why: "3.1.2-24 sends nothing beyond the client's Maximum Packet Size; it is read and not \
              used.",
    },
    Difference {
        tests: &[
            "mqtt5_3_3_4_9_no_more_than_the_receive_maximum_is_in_flight_at_qos_1",
            "mqtt5_3_3_4_9_no_more_than_the_receive_maximum_is_in_flight_at_qos_2",
            "mqtt5_3_3_4_9_retained_messages_keep_to_the_receive_maximum",
            "mqtt5_3_3_4_10_a_full_window_holds_back_nothing_but_publish",
            "mqtt5_4_4_retransmission_keeps_to_a_smaller_receive_maximum",
            "mqtt5_4_4_retransmission_of_qos_2_keeps_to_a_window_of_1",
            "mqtt5_4_8_2_a_group_goes_on_when_a_member_leaves",
            "mqtt5_4_9_0_2_a_qos_2_message_keeps_its_place_until_pubcomp",
        ],
        why: "3.3.4-9 bounds what is in flight by the client's Receive Maximum; it is read and \
              not used: there are 100 messages at most for every client.",
    },
    Difference {
        tests: &["mqtt5_3_1_3_2_2_a_later_connection_replaces_the_will"],
        why: "By 3.1.3-9 a new connection before the delay is over ends the will; it stays \
              stored under the client's identifier, and the end of the new connection, which has \
              none, publishes it.",
    },
    Difference {
        tests: &[
            "mqtt5_3_1_4_a_takeover_that_resumes_sends_a_will_without_delay",
            "mqtt_3_1_2_8_the_client_itself_hears_its_will_when_it_is_back",
        ],
        why: "3.1.2-8 publishes a will without delay when its connection ends, also if the \
              client is back at once; here a connection that resumes the session before the end \
              of the old one was seen cancels any will.",
    },
    Difference {
        tests: &[
            "mqtt5_3_1_2_11_10_data_without_a_method_is_a_protocol_error",
            "mqtt5_4_12_0_1_a_method_that_is_not_supported_is_refused",
            "mqtt5_4_12_0_4_a_rejection_ends_the_connection",
            "mqtt5_4_12_0_5_success_names_the_method",
            "mqtt5_4_12_0_5_the_method_is_named_in_each_answer",
        ],
        why: "4.12.0-1 refuses a client whose authentication method the server does not have; \
              there is no extended authentication, and its properties are passed over.",
    },
    Difference {
        tests: &[
            "mqtt5_3_3_1_11_retain_handling_2_sends_nothing",
            "mqtt5_3_3_1_13_retain_as_published_holds_in_the_queue",
            "mqtt5_3_3_1_13_retain_as_published_keeps_the_flag",
        ],
        why: "3.3.1-11 and 3.3.1-13 have Retain Handling and Retain As Published; both are read \
              and not used.",
    },
    Difference {
        tests: &[
            "mqtt5_3_3_1_9_retain_handling_0_sends_at_each_subscribe",
            "mqtt_3_8_4_3_a_second_subscription_replaces_the_first",
            "mqtt_3_8_4_4_replacing_brings_the_retained_message_again",
        ],
        why: "3.8.4-3 replaces a subscription to the same filter, and 3.8.4-4 (3.1.1: 3.8.4-3) \
              sends what is retained again; the second SUBSCRIBE is granted and changes nothing.",
    },
    Difference {
        tests: &["mqtt5_3_8_4_3_a_second_subscription_has_its_own_identifier"],
        why: "3.8.4-3 replaces a subscription with all it has; a new identifier replaces the old \
              one, but none does not remove it.",
    },
    Difference {
        tests: &[
            "mqtt5_3_8_3_3_no_local_goes_by_client_identifier",
            "mqtt5_3_8_3_3_no_local_keeps_a_clients_own_messages_from_it",
            "mqtt5_3_8_3_4_no_local_on_a_shared_subscription_ends_the_connection",
        ],
        why: "3.8.3-3 keeps a client's own messages from it, and 3.8.3-4 forbids that for a \
              shared subscription; No Local is read and not used.",
    },
    Difference {
        tests: &["mqtt5_4_1_a_subscriptions_options_outlive_its_connections"],
        why: "4.1.0-1 keeps a subscription with all it has while the session lasts; its \
              identifier goes with the connection, and No Local is not used at all.",
    },
    Difference {
        tests: &["mqtt5_3_3_2_11_a_server_keeps_to_the_clients_maximum_and_to_its_topics"],
        why: "By 3.3.2.3.4 a topic alias stands for one topic; the broker has one for each \
              filter, and sends it without a topic for another topic that matches.",
    },
    Difference {
        tests: &[
            "mqtt5_3_3_2_7_the_servers_memory_of_aliases_ends_with_the_connection",
            "mqtt5_3_3_2_8_alias_0_ends_the_connection",
            "mqtt5_3_3_2_an_alias_above_the_maximum_ends_the_connection",
            "mqtt5_3_3_2_an_alias_that_was_never_set_ends_the_connection",
            "mqtt5_3_8_2_1_2_subscription_identifier_0_ends_the_connection",
        ],
        why: "The error is found and the connection ended, but the DISCONNECT is one byte longer \
              than the remaining length says that it is (2.1.4).",
    },
    Difference {
        tests: &[
            "mqtt5_3_3_4_overlapping_filters_of_differing_qos_and_identifiers",
            "mqtt_3_1_2_8_the_will_of_a_client_that_vanishes_is_published",
            "mqtt_3_3_1_5_a_retained_message_keeps_its_qos",
            "mqtt_3_8_4_8_the_lower_qos_of_published_and_granted_holds",
            "mqtt_3_8_4_8_versions_agree_on_the_delivered_qos",
            "mqtt_4_3_2_3_a_qos_1_message_without_puback_is_sent_again",
            "mqtt_4_5_0_1_messages_wait_for_a_session_that_is_away",
            "mqtt_4_6_0_5_each_qos_of_a_mixed_stream_keeps_its_order",
        ],
        why: "By 3.8.4-8 (3.1.1: 3.8.4-6) a message is delivered at the lower QoS of published \
              and granted; here it is always the granted one.",
    },
    Difference {
        tests: &["mqtt_3_3_1_3_dup_is_not_passed_on"],
        why: "By 3.3.1-3 DUP does not go from the incoming to the outgoing PUBLISH; it is passed \
              on.",
    },
    Difference {
        tests: &[
            "mqtt5_4_3_3_7_a_message_that_was_sent_does_not_expire",
            "mqtt_3_3_1_1_what_is_sent_again_has_dup",
            "mqtt_3_10_4_3_a_delivery_that_began_is_completed_after_a_reconnect",
            "mqtt_4_3_3_6_after_its_pubrel_a_publish_is_not_sent_again",
        ],
        why: "4.4.0-1 and 3.3.1-1 send again what was in flight, with its identifier and DUP; \
              here it is read anew from the log of each subscription: without DUP, with \
              identifiers from 1, not if it has expired, and not if the subscription has ended.",
    },
    Difference {
        tests: &[
            "mqtt5_4_3_3_5_an_expiry_does_not_end_an_exchange_past_pubrec",
            "mqtt_4_3_3_5_a_pubrel_without_pubcomp_is_sent_again",
            "mqtt_4_3_3_a_subscriber_taken_over_in_the_middle_of_qos_2",
        ],
        why: "4.4.0-1 sends an owed PUBREL again on reconnect; it is put behind the CONNACK, but \
              stays there until something else is to be sent.",
    },
    Difference {
        tests: &[
            "mqtt5_4_3_3_4_a_pubrec_that_refuses_is_not_answered",
            "mqtt5_4_4_0_2_what_is_refused_is_not_sent_again",
            "mqtt5_4_8_2_6_a_message_refused_by_pubrec_goes_to_nobody_else",
        ],
        why: "By 4.3.3-4 a PUBREC of 0x80 or more ends the exchange; its code is not used, and \
              PUBREL is sent.",
    },
    Difference {
        tests: &["mqtt_4_3_3_10_a_repeated_publish_is_answered_and_delivered_once"],
        why: "By 4.3.3-10 (3.1.1: 4.3.3-2) a repetition before PUBREL is no new message; each is \
              kept, and PUBRELs release what was kept in turn, whatever their identifiers.",
    },
    Difference {
        tests: &["mqtt_4_3_3_11_a_pubrel_without_its_publish_is_answered_too"],
        why: "4.3.3-11 (3.1.1: 4.3.3-2) answers every PUBREL with PUBCOMP; one that has nothing \
              to release ends the connection.",
    },
    Difference {
        tests: &["mqtt_3_1_2_22_a_keep_alive_of_0_turns_it_off"],
        why: "By 3.1.2.10 a keep alive of 0 turns it off; the broker chose to let no such client \
              in.",
    },
    Difference {
        tests: &["mqtt_3_1_2_22_what_the_server_sends_keeps_nobody_alive"],
        why: "By 3.1.2-22 (3.1.1: 3.1.2-24) what the client sends keeps it alive; here the clock \
              begins anew with everything that is sent to it, too.",
    },
    Difference {
        tests: &["mqtt3_3_3_2_properties_do_not_reach_clients_before_mqtt_5"],
        why: "3.1.1 has no properties; a message that has some ends the connection of a \
              subscriber of 3.1.1, whose encoder panics.",
    },
    Difference {
        tests: &["mqtt_3_3_1_8_a_message_without_retain_leaves_the_retained_one_alone"],
        why: "By 3.3.1-8 (3.1.1: 3.3.1-12) a message without RETAIN removes nothing; an empty \
              payload does, whatever its RETAIN.",
    },
    Difference {
        tests: &["mqtt_4_2_a_large_message_arrives_whole"],
        why: "3.2.2.3.6 has a server tell the Maximum Packet Size that it takes; its bound, by \
              default 20 kB, is not told, and a larger packet ends the connection.",
    },
    Difference {
        tests: &["mqtt5_4_8_2_4_a_qos_2_delivery_is_completed_with_its_member"],
        why: "4.8.2-4 completes a QoS 2 delivery when the member is back; a client that resumes \
              its session is not put back into its groups.",
    },
];
