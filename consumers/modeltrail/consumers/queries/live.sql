-- runs_since: The runs with events at or after these offsets of their partitions.
SELECT r.run_id, r."offset" >= p.next_offset AS created, r.status
FROM fold.activity a
JOIN fold.runs r ON r.run = a.run
JOIN (VALUES {partitions}) p (partition, next_offset) ON p.partition = r.partition
WHERE a.last_seen_offset >= p.next_offset
LIMIT {limit}
