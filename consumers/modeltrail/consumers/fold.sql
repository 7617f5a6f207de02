-- Milliseconds since 1970 as TIMESTAMP. Clocks can be absurd; a time outside of the years 1 to 9999
-- is NULL, so that one such event does not break everybody's queries.
CREATE MACRO fold.at(ms) AS
    CASE WHEN ms BETWEEN -62135596800000 AND 253402300799999 THEN epoch_ms(ms) END;

-- What this file is: the shape it has, and the program that made it.
CREATE TABLE fold.meta (key VARCHAR NOT NULL, value VARCHAR NOT NULL);

-- How far each partition was folded, written in the transaction of the effects. The digest (SHA-256)
-- and the time of the last record show at the next start whether this is still the same log; head is
-- the end of the hash chain, see chain.py.
CREATE TABLE fold.positions (
    stream VARCHAR NOT NULL,
    partition INTEGER NOT NULL,
    next_offset BIGINT NOT NULL,
    last_digest BLOB NOT NULL,
    last_appended_at_ms BIGINT NOT NULL,
    repeats BIGINT NOT NULL,
    head BLOB NOT NULL
);

-- The last event of each producer, by what it is about (run/ID, model/ID, registry) and its actor:
-- what comes again at or below that number is a repeat, but for the gaps. A gap is its first and last
-- number, the id of the dead letter that had it (zeros without one), and when the event before it was
-- made (8, 8, 16 and 8 bytes). untold
-- counts events missing before a dead letter, until an event of the run follows. The one with the
-- least first_offset owns the id.
CREATE TABLE fold.producers (
    producer_id BLOB NOT NULL,
    partition INTEGER NOT NULL,
    subject VARCHAR NOT NULL,
    actor VARCHAR NOT NULL,
    first_offset BIGINT NOT NULL,
    last_sequence BIGINT NOT NULL,
    last_event_id BLOB NOT NULL,
    gaps BLOB NOT NULL,
    untold BIGINT NOT NULL,
    points_logged BIGINT NOT NULL,
    points_dropped BIGINT NOT NULL
);

-- Events that could not be decoded or applied, as they came.
CREATE TABLE fold.dead_letters (
    stream VARCHAR NOT NULL,
    partition INTEGER NOT NULL,
    "offset" BIGINT NOT NULL,
    appended_at_ms BIGINT NOT NULL,
    event_type VARCHAR,
    error VARCHAR NOT NULL,
    payload BLOB NOT NULL
);
