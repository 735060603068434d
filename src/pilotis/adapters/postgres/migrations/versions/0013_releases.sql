-- The oldest Pilotis that runs on this schema, by the migration it knows last: while a release goes out both versions run on one database.
CREATE TABLE schema_floor (
    oldest text NOT NULL
);
INSERT INTO schema_floor VALUES ('0013');

CREATE TABLE release (
    env        text COLLATE "C" NOT NULL,
    id         text COLLATE "C" NOT NULL,
    settings   text[] NOT NULL,
    contract   text NOT NULL,
    author     text NOT NULL,
    created_at timestamptz NOT NULL,
    image      text,
    generation integer,
    note       text NOT NULL,
    n          bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (env, id)
);

CREATE TABLE stable_release (
    env     text COLLATE "C" PRIMARY KEY,
    release text COLLATE "C" NOT NULL
);

-- `body` holds the fields of a rollout that nothing is looked up by; a later version may add some.
CREATE TABLE rollout (
    env      text COLLATE "C" NOT NULL,
    id       text COLLATE "C" NOT NULL,
    state    text NOT NULL,
    has_ended boolean NOT NULL,
    version  integer NOT NULL,
    body     jsonb NOT NULL,
    n        bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (env, id)
);
CREATE UNIQUE INDEX rollout_under_way ON rollout (env) WHERE NOT has_ended;
CREATE INDEX rollout_latest ON rollout (env, n DESC);

CREATE TABLE release_lease (
    env     text COLLATE "C" PRIMARY KEY,
    holder  text NOT NULL,
    fence   bigint NOT NULL,
    ends_at timestamptz NOT NULL
);

CREATE TABLE approval (
    env        text COLLATE "C" NOT NULL,
    rollout    text COLLATE "C" NOT NULL,
    role       text NOT NULL,
    by         text NOT NULL,
    at         timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    evidence   text NOT NULL,
    signature  text NOT NULL,
    PRIMARY KEY (env, rollout, role)
);

-- `line` is the text that `hash` is taken of; it holds the hash of the line before. `trail_head` is the last one, and who adds locks it.
CREATE TABLE trail_head (
    env  text COLLATE "C" PRIMARY KEY,
    n    bigint NOT NULL,
    hash text NOT NULL
);
CREATE TABLE trail (
    env     text COLLATE "C" NOT NULL,
    n       bigint NOT NULL,
    rollout text COLLATE "C",
    line    text NOT NULL,
    hash    text NOT NULL,
    PRIMARY KEY (env, n)
);
CREATE INDEX trail_rollout ON trail (env, rollout, n);

-- A restore drops the tables and migrates anew: the function outlives them.
CREATE OR REPLACE FUNCTION trail_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the trail is only added to';
END
$$;
CREATE TRIGGER trail_is_kept BEFORE UPDATE OR DELETE ON trail FOR EACH ROW EXECUTE FUNCTION trail_is_kept();

CREATE TABLE split (
    env       text COLLATE "C" PRIMARY KEY,
    stable    text NOT NULL,
    candidate text,
    weight    integer NOT NULL CHECK (weight BETWEEN 0 AND 100)
);

CREATE TABLE seen (
    env       text COLLATE "C" NOT NULL,
    instance  text COLLATE "C" NOT NULL,
    url       text NOT NULL,
    release   text,
    stable    text,
    candidate text,
    weight    integer NOT NULL,
    inside    jsonb NOT NULL,
    at        timestamptz NOT NULL,
    PRIMARY KEY (env, instance)
);

-- What a release did in one process within the five seconds from `begins` on. `latency` goes by the bounds of ports.releases.
CREATE TABLE traffic (
    env        text COLLATE "C" NOT NULL,
    release    text COLLATE "C" NOT NULL,
    begins     timestamptz NOT NULL,
    instance   text COLLATE "C" NOT NULL,
    requests   bigint NOT NULL,
    errors     bigint NOT NULL,
    latency    bigint[] NOT NULL,
    paid       bigint NOT NULL,
    cost_eur   numeric NOT NULL,
    cost_sq    numeric NOT NULL,
    saturation double precision,
    PRIMARY KEY (env, release, begins, instance)
);
CREATE INDEX traffic_begins ON traffic (begins);

CREATE TABLE examination (
    env      text COLLATE "C" NOT NULL,
    rollout  text COLLATE "C" NOT NULL,
    release  text COLLATE "C" NOT NULL,
    question text COLLATE "C" NOT NULL,
    hit      boolean NOT NULL,
    PRIMARY KEY (env, rollout, release, question)
);

-- Besides ask, ingest and admin: to put golden questions to one release, and to agree to releases in a role.
ALTER TABLE api_key DROP CONSTRAINT api_key_rights_check;
ALTER TABLE api_key ADD CONSTRAINT api_key_rights_check CHECK (cardinality(rights) > 0);
