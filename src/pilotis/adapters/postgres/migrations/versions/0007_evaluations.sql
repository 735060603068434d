-- One run of a golden set. `ordered` is what a worker needs to carry it out: the questions and the settings that were changed.
CREATE TABLE evaluation (
    id            uuid PRIMARY KEY,
    env           text COLLATE "C" NOT NULL,
    bu            text COLLATE "C" NOT NULL,
    at            timestamptz NOT NULL,
    state         text NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'failed')),
    golden        text NOT NULL,
    digest        text COLLATE "C" NOT NULL,
    questions     integer NOT NULL,
    config        jsonb NOT NULL,
    figures       jsonb NOT NULL,
    error         text,
    is_baseline   boolean NOT NULL DEFAULT false,
    ordered       jsonb,
    claimed_until timestamptz
);
CREATE INDEX evaluation_env_at ON evaluation (env, at DESC, id DESC);
CREATE INDEX evaluation_waiting ON evaluation (env, at, id) WHERE state IN ('waiting', 'running');
CREATE UNIQUE INDEX evaluation_one_baseline ON evaluation (env, bu, golden) WHERE is_baseline;

CREATE TABLE evaluation_question (
    evaluation_id uuid NOT NULL REFERENCES evaluation ON DELETE CASCADE,
    n             integer NOT NULL,
    judged        jsonb NOT NULL,
    PRIMARY KEY (evaluation_id, n)
);

-- One vote of each key on each answer. The question is there only where the caller sent it along.
CREATE TABLE feedback (
    answer_id  text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL,
    env        text COLLATE "C" NOT NULL,
    bu         text COLLATE "C" NOT NULL,
    at         timestamptz NOT NULL,
    vote       text NOT NULL CHECK (vote IN ('up', 'down')),
    comment    text,
    passage_id text COLLATE "C",
    document   text,
    question   text,
    PRIMARY KEY (answer_id, key)
);
CREATE INDEX feedback_env_at ON feedback (env, at DESC);
