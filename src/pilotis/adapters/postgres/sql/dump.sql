-- name: revision
SELECT version_num FROM alembic_version

-- name: tables
SELECT relname, array_agg(attname::text ORDER BY attnum) FILTER (WHERE attgenerated = '')
FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' AND relname <> 'alembic_version'
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e')
GROUP BY relname ORDER BY relname COLLATE "C"

-- name: indexes
SELECT index.relname, pg_get_indexdef(indexrelid)
FROM pg_index JOIN pg_class AS index ON index.oid = indexrelid
WHERE index.relnamespace = current_schema()::regnamespace
  AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype IN ('p', 'u', 'x'))
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = indrelid AND deptype = 'e')
ORDER BY index.relname COLLATE "C"

-- name: references
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE contype = 'f' AND connamespace = current_schema()::regnamespace
ORDER BY conname

-- name: sequences
-- What a sequence gave is not undone by a snapshot's moment: read after it, the number is that of the moment or a later one.
SELECT owner.relname || '.' || attname, last_value
FROM pg_depend
JOIN pg_class AS sequence ON sequence.oid = objid AND sequence.relkind = 'S'
JOIN pg_class AS owner ON owner.oid = refobjid
JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
JOIN pg_sequences ON sequencename = sequence.relname AND schemaname = current_schema()
WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass AND deptype IN ('a', 'i')
  AND sequence.relnamespace = current_schema()::regnamespace AND last_value IS NOT NULL
ORDER BY 1

-- name: go_on
SELECT setval(pg_get_serial_sequence(quote_ident(%(table)s), %(column)s), %(last)s)

-- name: ledger
SELECT count(*), coalesce(sum(micro), 0)::bigint, coalesce(sum(cost_eur), 0) FROM ledger

-- name: blobs
SELECT sha256, max(size) FROM document GROUP BY sha256 ORDER BY sha256

-- name: others
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'

-- name: alone
-- Who takes a snapshot, and who restores: one at a time.
SELECT pg_try_advisory_lock(7265021904)

-- name: keep_bytes
-- Against `may_reclaim` of those who delete the bytes of documents that are gone.
SELECT pg_advisory_lock(7265021905)

-- name: may_reclaim
SELECT pg_try_advisory_xact_lock_shared(7265021905)
