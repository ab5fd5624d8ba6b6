"""Each rule of the data flow, where it stands in the product, what stands there without it, and the tests that must notice.

A rule with several places has a mutation for each. B1, R6 and so on name the scenario, as they do in the product's docstrings.
"""

from __future__ import annotations

from tests.guards.trial import Edit, Mutation

RULES = (
    "version guard", "offset compare-and-set", "sorted batch", "kept deletes", "snapshot difference", "visibility check of a reading",
    "lock before fold", "sorted identifier claims", "chunk version of a load", "echo by base", "overwritten witness",
    "acknowledge before feedback", "entitled", "one reader for each source", "only what others own is written", "hold behind what is refused",
    "no older hub",
)  # fmt: skip

MERGE = "tests/integration/merge/test_merge.py::"
ORDER = "tests/integration/merge/test_order_of_locks.py::"
MEANWHILE = "tests/integration/merge/test_meanwhile.py::"
STEPS = "tests/integration/merge/test_steps.py::"
WORDS = "tests/integration/merge/test_words.py::"
APPLY = "tests/integration/apply/test_apply.py::"
LOADS = "tests/integration/capture/test_loads.py::"
READERS = "tests/integration/capture/test_readers_and_crashes.py::"
VISIBLE = "tests/integration/capture/test_steps_and_visibility.py::"
ROUTE = "tests/integration/test_route.py::"
HOLD = "tests/integration/test_parked_hold.py::"
TWO_WAY = "tests/integration/test_two_way.py::"

_NEWER_ITEMS = Edit(
    "lienthong/merge.py",
    'had.op != "p" and (entry.epoch, entry.version) <= (had.epoch, had.version)',
    'had.op != "p" and (entry.epoch, entry.version) == (had.epoch, had.version)',
)
_NEWER_CONTRIBUTION = Edit("lienthong/hub_statements.py", " AND (c.epoch, c.version) < (b.epoch, b.version)", "")
_NEWER_SOLE = Edit("lienthong/hub_statements.py", " AND c.version < b.version", "")
_NEWER_SOLE_WAITED = Edit("lienthong/hub_statements.py", " AND (c.epoch, c.version) < (u.epoch, u.reading)", "")

VERSIONS = (
    Mutation(
        "version guard", "at the hub, all three places", "B2",
        (_NEWER_ITEMS, _NEWER_CONTRIBUTION, _NEWER_SOLE, _NEWER_SOLE_WAITED),
        (f"{MERGE}test_older_never_overwrites_newer[two batches]",),
        quick=True,
    ),
    Mutation(
        "version guard", "at the hub, a contribution stored meanwhile", "B2, B6",
        (_NEWER_CONTRIBUTION,),
        (f"{MEANWHILE}test_a_newer_word_that_was_stored_meanwhile_is_not_overwritten",),
    ),
    Mutation(
        "version guard", "at the hub, the word of a sole contributor", "B2, B6",
        (_NEWER_SOLE, _NEWER_SOLE_WAITED),
        (f"{MERGE}test_older_never_overwrites_newer[two batches]",),
    ),
    Mutation(
        "version guard", "at a target", "B5",
        (
            Edit(
                "lienthong/apply/target.py",
                "if had is not None and had.version >= one.version:",
                "if had is not None and had.version == one.version:",
            ),
        ),
        (
            f"{APPLY}test_older_and_duplicate_change_nothing",
            f"{APPLY}test_a_deleted_record_does_not_rise_from_an_older_update",
            f"{APPLY}test_a_delete_that_comes_first_keeps_out_the_update_before_it",
        ),
    ),
    Mutation(
        "version guard", "status steps", "S1",
        (Edit("lienthong/steps.py", 'if (head.epoch, step["order"]) <= place:', "if False:"),),
        (f"{STEPS}test_a_replay_that_begins_in_the_middle_makes_no_step",),
    ),
)  # fmt: skip

OFFSETS = (
    Mutation(
        "offset compare-and-set", "from an expected offset", "B6, R6",
        (Edit("lienthong/hub.py", 'partition = %s AND next = %s", [following, topic,', 'partition = %s AND %s >= 0", [following, topic,'),),
        (f"{MERGE}test_offsets_are_compared_too_when_one_of_several_partitions_moved", f"{APPLY}test_a_zombie_is_fenced_and_writes_nothing"),
    ),
    Mutation(
        "offset compare-and-set", "from none", "B6, R6",
        (
            Edit(
                "lienthong/hub.py",
                'VALUES (%s, %s, %s) ON CONFLICT DO NOTHING", [topic, partition, following]',
                'VALUES (%s, %s, %s) ON CONFLICT (topic, partition) DO UPDATE SET next = excluded.next", [topic, partition, following]',
            ),
        ),
        (f"{MERGE}test_a_zombie_is_fenced_and_writes_nothing", f"{APPLY}test_a_zombie_is_fenced_and_writes_nothing"),
        quick=True,
    ),
    Mutation(
        "offset compare-and-set", "in the order of partitions", "R6",
        (Edit("lienthong/hub.py", "in sorted(moves.items()):", "in moves.items():"),),
        (f"{ORDER}test_offsets_moved_in_opposite_order_do_not_deadlock",),
    ),
)  # fmt: skip

BATCHES = (
    Mutation(
        "sorted batch", "at the hub, the newest of each record", "R6",
        (Edit("lienthong/batch.py", "left = entry if older or same else held", "left = held"),),
        (f"{MERGE}test_older_never_overwrites_newer[one batch]",),
    ),
    Mutation(
        "sorted batch", "at a target, the newest of each record", "B5",
        (Edit("lienthong/apply/target.py", "if held is None or held.version <= one.version:", "if True:"),),
        (f"{APPLY}test_of_several_messages_in_one_batch_the_newest_wins_in_any_order",),
    ),
    Mutation(
        "sorted batch", "records locked by id", "B6, R6",
        (
            Edit("lienthong/hub.py", "for record in sorted(set(records))]", "for record in dict.fromkeys(records)]"),
            Edit("lienthong/hub_statements.py", "ORDER BY r.record FOR UPDATE OF r", "FOR UPDATE OF r"),
        ),
        (f"{ORDER}test_records_locked_in_opposite_order_do_not_deadlock",),
    ),
    Mutation(
        "sorted batch", "counters", "R6",
        (Edit("lienthong/hub.py", "values = sorted((*key, *sums)", "values = list((*key, *sums)"),),
        (f"{ORDER}test_counters_raised_in_opposite_order_do_not_deadlock",),
    ),
)  # fmt: skip

DELETES = (
    Mutation(
        "kept deletes", "at the hub", "B9, B10",
        (
            Edit(
                "lienthong/merge.py",
                "        hub.add_contributions(cursor, fresh)\n",
                "        hub.add_contributions(cursor, fresh)\n        cursor.execute(\"DELETE FROM hub.contribution WHERE op = 'd'\")\n",
            ),
        ),
        (f"{MERGE}test_a_deleted_dossier_does_not_rise_from_an_older_state",),
    ),
    Mutation(
        "kept deletes", "at a target", "B5, B9",
        (
            Edit(
                "lienthong/apply/target.py",
                'rest = [row for row in done if row["state"] != "applied"]',
                'rest = [row for row in done if row["state"] not in ("applied", "deleted", "withdrawn")]',
            ),
        ),
        (f"{APPLY}test_a_deleted_record_does_not_rise_from_an_older_update", f"{APPLY}test_a_delete_that_comes_first_keeps_out_the_update_before_it"),
    ),
)  # fmt: skip

READINGS = (
    Mutation(
        "snapshot difference", "the outbox read by transaction number", "B2",
        (
            Edit(
                "lienthong/capture/outbox.py",
                "  AND NOT pg_visible_in_snapshot(xid, %(old)s::pg_snapshot)\n",
                "  AND xid >= pg_snapshot_xmax(%(old)s::pg_snapshot)\n",
            ),
        ),
        (f"{VISIBLE}test_a_transaction_that_commits_late_is_not_lost[outbox]",),
    ),
    Mutation(
        "snapshot difference", "the hub's change list loses only what was taken from it", "S3, B2",
        (
            Edit(
                "lienthong/route.py",
                "WHERE (lane, id) IN (SELECT * FROM unnest(%s::smallint[], %s::bigint[]))",
                "WHERE id <= (SELECT max(id) FROM unnest(%s::smallint[], %s::bigint[]) AS u(lane, id))",
            ),
        ),
        (f"{ROUTE}test_a_change_that_commits_while_a_later_one_is_routed_is_not_lost",),
    ),
    Mutation(
        "visibility check of a reading", "the log", "B1",
        (Edit("lienthong/capture/wal.py", "while self._waiting and seen.sees(self._waiting[0].xids):", "while self._waiting:"),),
        (f"{VISIBLE}test_a_commit_between_log_and_visibility_is_waited_for[wal]",),
    ),
    Mutation(
        "chunk version of a load", "the last finished reading, not the last drawn", "R1",
        (Edit("lienthong/load.py", "return stored.finished, stored.epoch", "return stored.drawn, stored.epoch"),),
        (
            f"{LOADS}test_a_chunk_that_comes_late_does_not_undo_a_change[wal]",
            f"{LOADS}test_a_chunk_that_comes_late_does_not_undo_a_change[outbox]",
        ),
    ),
    Mutation(
        "chunk version of a load", "taken before the look", "R1",
        (
            Edit(
                "lienthong/load.py",
                "        version, epoch = self._finished()\n        connection, readings = self._connection()\n"
                "        with snapshot(connection, self._local.locks) as cursor:\n",
                "        connection, readings = self._connection()\n        with snapshot(connection, self._local.locks) as cursor:\n"
                '            cursor.execute("SELECT 1")\n            version, epoch = self._finished()\n',
            ),
        ),
        (f"{LOADS}test_the_number_of_a_chunk_is_taken_before_its_look[outbox]",),
    ),
)  # fmt: skip

LOCKS = (
    Mutation(
        "lock before fold", "the records of a merge", "B6",
        (Edit("lienthong/hub_statements.py", "ORDER BY r.record FOR UPDATE OF r", "ORDER BY r.record"),),
        (f"{MERGE}test_two_merges_of_one_dossier_lose_no_contribution[rule on]",),
    ),
    Mutation(
        "sorted identifier claims", "one statement, by claim", "B7",
        (Edit("lienthong/hub.py", "FROM {given} b ORDER BY claim ON CONFLICT DO NOTHING", "FROM {given} b ON CONFLICT DO NOTHING"),),
        (f"{ORDER}test_claims_in_opposite_order_do_not_deadlock",),
    ),
)  # fmt: skip

ECHOES = (
    Mutation(
        "echo by base", "at capture: the base of what we wrote", "B4, B5",
        (
            Edit("lienthong/reading.py", "WHEN a.base @> now.doc THEN '{}'::text[]", "WHEN false THEN '{}'::text[]"),
            Edit("lienthong/reading.py", "WHERE n.value IS DISTINCT FROM a.base -> n.key", "WHERE true"),
        ),
        (
            f"{APPLY}test_what_the_targets_own_triggers_make_of_a_write_is_its_base_not_an_edit",
            f"{APPLY}test_an_edit_after_our_write_is_seen_field_by_field",
            f"{TWO_WAY}test_the_wards_edit_of_its_own_field_reaches_the_portal",
        ),
    ),
    Mutation(
        "echo by base", "at the hub: a delivered value is nobody's own word", "B4",
        (Edit("lienthong/merge.py", "        if edited & bits[name]:\n", "        if True:\n"),),
        (f"{WORDS}test_a_delivered_value_never_becomes_the_receivers_own_word",),
    ),
    Mutation(
        "echo by base", "our own delete", "B5",
        (Edit("lienthong/reading.py", "state IN ('withdrawn', 'deleted')", "state IN ('none')"),),
        (f"{APPLY}test_a_row_that_we_took_away_is_no_delete_of_the_wards",),
    ),
    Mutation(
        "echo by base", "our own status step", "S1, B5",
        (Edit("lienthong/steps.py", 'if step["ours"] or (', 'if ('),),
        (f"{STEPS}test_every_change_of_status_is_one_event_and_a_replay_none",),
    ),
)  # fmt: skip

WITNESS = (
    Mutation(
        "overwritten witness", "an update", "B5",
        (Edit("lienthong/apply/target.py", "self._witness(cursor, target, existing, before,", "_ = (cursor, target, existing, before,"),),
        (
            f"{APPLY}test_a_local_edit_of_what_others_own_is_overwritten_with_a_trace[rule on]",
            f"{TWO_WAY}test_an_edit_that_capture_never_read_is_witnessed_by_the_applier",
        ),
    ),
    Mutation(
        "overwritten witness", "a delete by the owner", "B5",
        (Edit("lienthong/apply/target.py", "if had is None or had.base != now:", "if False:"),),
        (f"{APPLY}test_the_owners_delete_takes_an_edited_row_too_and_keeps_what_stood_there",),
    ),
)  # fmt: skip

ACKNOWLEDGED = (
    Mutation(
        "acknowledge before feedback", "the log", "B11",
        (
            Edit(
                "lienthong/capture/wal.py",
                "        self.publish(output)\n        self._confirm(batch.position)\n",
                "        self._confirm(batch.position)\n        self.publish(output)\n",
            ),
        ),
        (f"{READERS}test_what_the_broker_did_not_acknowledge_is_read_again[wal]",),
    ),
    Mutation(
        "acknowledge before feedback", "the outbox", "B11",
        (
            Edit(
                "lienthong/capture/outbox.py",
                "        for output in outputs:\n            self.publish(output)\n"
                "        self._position = position\n        self.done(number, position, days[-1].at)\n",
                "        self._position = position\n        self.done(number, position, days[-1].at)\n"
                "        for output in outputs:\n            self.publish(output)\n",
            ),
        ),
        (f"{READERS}test_what_the_broker_did_not_acknowledge_is_read_again[outbox]",),
    ),
    Mutation(
        "acknowledge before feedback", "both: the wait for the broker", "B11",
        (Edit("lienthong/capture/line.py", "        output.close()\n        self.producer.flush()\n", "        output.close()\n"),),
        (
            f"{READERS}test_what_the_broker_did_not_acknowledge_is_read_again[wal]",
            f"{READERS}test_what_the_broker_did_not_acknowledge_is_read_again[outbox]",
        ),
    ),
    Mutation(
        "acknowledge before feedback", "a chunk of a load", "B11, R1",
        (
            Edit(
                "lienthong/load.py",
                "        for partition, frame in output.close():\n            self.producer.send(frames.TOPIC, frame, partition=partition)\n"
                "        self.producer.flush()\n",
                "        for partition, frame in output.close():\n            self.producer.send(frames.TOPIC, frame, partition=partition)\n",
            ),
        ),
        (f"{LOADS}test_a_chunk_that_the_broker_did_not_acknowledge_is_loaded_again[outbox]",),
    ),
    Mutation(
        "acknowledge before feedback", "the router", "B8, B11",
        (Edit("lienthong/route.py", "        return self.producer.flush()\n", "        return {}\n"),),
        (f"{ROUTE}test_what_was_not_acknowledged_is_sent_again_with_a_higher_version",),
    ),
)  # fmt: skip

ENTITLED = (
    Mutation(
        "entitled", "nothing is sent twice", "B8",
        (Edit("lienthong/route.py", "if had is not None and had == (SENT, content.digest) and not resend:", "if False:"),),
        (f"{ROUTE}test_an_equal_output_is_not_sent_again", f"{ROUTE}test_the_receivers_own_change_is_no_news_to_it"),
    ),
    Mutation(
        "entitled", "out of scope is withdrawn", "B8",
        (Edit("lienthong/route.py", "if system not in receivers and state_ != MERGED and", "if False and"),),
        (
            f"{ROUTE}test_leaving_the_scope_withdraws_the_dossier_and_its_children_children_first",
            f"{TWO_WAY}test_a_dossier_that_is_handed_over_leaves_one_ward_and_arrives_in_the_other",
        ),
    ),
    Mutation(
        "entitled", "fewer fields are named", "B8",
        (Edit("lienthong/route.py", '"withheld": list(terms.withheld)', '"withheld": []'),),
        (f"{ROUTE}test_fewer_fields_are_sent_as_withheld",),
    ),
    Mutation(
        "entitled", "fewer fields are erased at the target", "B8",
        (
            Edit(
                "lienthong/apply/own_row.py",
                "frozenset(name for name in withheld if base is not None and base.get(name) is not None)",
                "frozenset()",
            ),
        ),
        (f"{APPLY}test_fewer_fields_erases_what_was_sent_before",),
    ),
    Mutation(
        "entitled", "what was sent but not stored", "B8",
        (Edit("lienthong/in_doubt.py", "topics.between(topic, start, end))", "())"),),
        (
            f"{ROUTE}test_what_was_sent_but_not_stored_is_withdrawn_when_the_record_has_moved_meanwhile",
            f"{ROUTE}test_a_value_that_was_sent_but_not_stored_and_is_taken_back_is_sent_again",
        ),
    ),
)  # fmt: skip

OWNERS = (
    Mutation(
        "one reader for each source", "the lease", "B2",
        (Edit("lienthong/capture/state.py", "(lease_owner = %s OR lease_until < clock_timestamp())", "(lease_owner = %s OR true)"),),
        (f"{READERS}test_a_second_reader_is_fenced_and_takes_over_when_the_first_is_gone[outbox]",),
    ),
    Mutation(
        "one reader for each source", "a reader of an earlier epoch", "R4",
        (Edit("lienthong/capture/state.py", "lease_owner = %s AND epoch = %s", "lease_owner = %s AND %s > 0"),),
        (
            f"{READERS}test_a_reader_of_an_earlier_epoch_is_fenced_and_begins_anew_in_the_new_one[wal]",
            f"{READERS}test_a_reader_of_an_earlier_epoch_is_fenced_and_begins_anew_in_the_new_one[outbox]",
        ),
    ),
    Mutation(
        "only what others own is written", "columns of an update", "B5",
        (Edit("lienthong/apply/table.py", " and self.group_of[n] not in write.held)", ")"),),
        (f"{APPLY}test_an_update_writes_only_what_the_target_does_not_own",),
    ),
    Mutation(
        "only what others own is written", "a withdrawal takes untouched rows of ours only", "B5",
        (Edit("lienthong/apply/target.py", "elif had is not None and had.inserted and had.base == now:", "elif had is not None:"),),
        (
            f"{APPLY}test_a_withdrawal_keeps_a_row_that_is_not_simply_ours[edited]",
            f"{APPLY}test_a_withdrawal_keeps_a_row_that_is_not_simply_ours[not ours]",
        ),
    ),
)  # fmt: skip

HOLDS = (
    Mutation(
        "hold behind what is refused", "at the hub", "parking",
        (
            Edit(
                "lienthong/parked_hold.py",
                "(free if before is None or entry.version <= before else batch.held).append(entry)",
                "free.append(entry)",
            ),
        ),
        (f"{HOLD}test_later_states_wait_behind_the_refused_one_and_follow_when_it_is_settled",),
    ),
)  # fmt: skip

SET_BACK = (
    Mutation(
        "no older hub", "before anything starts", "restore",
        (Edit("lienthong/in_doubt.py", "if start < end and (unknown :=", "if start > end and (unknown :="),),
        ("tests/integration/test_hub_set_back.py::test_messages_about_records_it_never_had_are_a_hub_that_was_set_back",),
    ),
)  # fmt: skip

MUTATIONS = (*VERSIONS, *OFFSETS, *BATCHES, *DELETES, *READINGS, *LOCKS, *ECHOES, *WITNESS, *ACKNOWLEDGED, *ENTITLED, *OWNERS, *HOLDS, *SET_BACK)
