-- `counted`: whether the budgets' counters hold it, as of the epoch in `counting`. `micro`: micro-euros as budgets count, rounded up.
ALTER TABLE ledger
    ADD key           text COLLATE "C",
    ADD step          text NOT NULL DEFAULT 'full',
    ADD estimated     boolean NOT NULL DEFAULT false,
    ADD instance      text COLLATE "C",
    ADD counted       boolean NOT NULL DEFAULT true,
    ADD input_tokens  bigint NOT NULL DEFAULT 0,
    ADD output_tokens bigint NOT NULL DEFAULT 0,
    ADD micro         bigint NOT NULL GENERATED ALWAYS AS (ceil(cost_eur * 1000000)::bigint) STORED;

UPDATE ledger SET
    input_tokens = (SELECT coalesce(sum((call ->> 'input_tokens')::bigint), 0) FROM jsonb_array_elements(usage -> 'calls') call),
    output_tokens = (SELECT coalesce(sum((call ->> 'output_tokens')::bigint), 0) FROM jsonb_array_elements(usage -> 'calls') call),
    estimated = usage @> '{"calls": [{"estimated": true}]}'
WHERE jsonb_typeof(usage -> 'calls') = 'array';

CREATE INDEX ledger_uncounted ON ledger (at, id) WHERE NOT counted;
CREATE INDEX ledger_at ON ledger (at, id);

-- Which sums of an env's ledger the counters were last made from. Its row is locked by those who book while somebody sums.
CREATE TABLE counting (
    env   text COLLATE "C" PRIMARY KEY,
    epoch text NOT NULL
);

-- Sums of the ledger by quarter of an hour, in which the windows of every time zone begin: budgets are rebuilt from them at once,
-- however long the ledger is. Written in the statement that writes the ledger. `key` is empty where there was none.
CREATE TABLE tally (
    env     text COLLATE "C" NOT NULL,
    quarter timestamptz NOT NULL,
    plane   text NOT NULL,
    bu      text COLLATE "C" NOT NULL,
    key     text COLLATE "C" NOT NULL,
    micro   numeric(30) NOT NULL,
    PRIMARY KEY (env, quarter, plane, bu, key)
) WITH (fillfactor = 70);

INSERT INTO tally (env, quarter, plane, bu, key, micro)
SELECT env, to_timestamp(floor(extract(epoch FROM at) / 900) * 900), plane, bu, coalesce(key, ''), sum(micro)
FROM ledger GROUP BY 1, 2, 3, 4, 5;
