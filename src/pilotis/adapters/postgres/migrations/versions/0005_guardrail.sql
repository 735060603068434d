-- Where the guardrail of each scope stands, and every move it made. The moves are never changed.
CREATE TABLE guardrail (
    env        text COLLATE "C" NOT NULL,
    scope      text COLLATE "C" NOT NULL,
    level      integer NOT NULL CHECK (level >= 0),
    since      timestamptz NOT NULL,
    reason     text NOT NULL,
    recovering boolean NOT NULL,
    trips      integer NOT NULL,
    version    integer NOT NULL,
    PRIMARY KEY (env, scope)
);

CREATE TABLE guardrail_move (
    n          bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    at         timestamptz NOT NULL,
    env        text COLLATE "C" NOT NULL,
    scope      text COLLATE "C" NOT NULL,
    from_level integer,
    to_level   integer NOT NULL,
    actor      text NOT NULL,
    reason     text NOT NULL,
    figures    jsonb NOT NULL
);
CREATE INDEX guardrail_move_env ON guardrail_move (env, n DESC);

-- Documents that were deleted or replaced, until the caches have forgotten what was made from them. Written with the change itself.
CREATE TABLE purge (
    n           bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    bu          text COLLATE "C" NOT NULL,
    document_id uuid NOT NULL
);
