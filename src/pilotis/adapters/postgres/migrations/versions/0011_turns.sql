ALTER TABLE document ADD failed_in text CHECK (failed_in IN ('received', 'parsing', 'embedding'));

-- When a queue last worked for a business unit, and until when it rests: `*` stands for all of them.
CREATE TABLE turn (
    queue        text NOT NULL,
    bu           text COLLATE "C" NOT NULL,
    served_at    timestamptz NOT NULL DEFAULT '-infinity',
    paused_until timestamptz,
    reason       text,
    PRIMARY KEY (queue, bu)
) WITH (fillfactor = 50);

DROP INDEX document_waiting;
CREATE INDEX document_waiting ON document (bu, next_try_at, id) INCLUDE (received_at) WHERE state IN ('received', 'parsing');
DROP INDEX document_embedding;
CREATE INDEX document_embedding ON document (bu, next_try_at, id) INCLUDE (received_at) WHERE state = 'embedding';
CREATE INDEX document_failed ON document (bu, received_at, id) WHERE state = 'failed';
