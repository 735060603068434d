-- name: put
-- Nothing is stored where the business unit has no such answer, or, if a passage is named, no such passage.
INSERT INTO feedback AS known (answer_id, key, env, bu, at, vote, comment, passage_id, document, question)
SELECT ledger.id, %(key)s, ledger.env, ledger.bu, %(at)s, %(vote)s, %(comment)s, %(passage_id)s, right_one.name, %(question)s
FROM ledger LEFT JOIN (
    SELECT document.name FROM passage JOIN document ON document.id = passage.document_id
    WHERE passage.id = %(passage_id)s AND document.bu = %(bu)s LIMIT 1
) AS right_one ON true
WHERE ledger.id = %(answer_id)s AND ledger.env = %(env)s AND ledger.bu = %(bu)s AND ledger.kind = 'answer'
  AND (%(passage_id)s::text IS NULL OR right_one.name IS NOT NULL)
ON CONFLICT (answer_id, key) DO UPDATE
SET at = excluded.at, vote = excluded.vote, comment = excluded.comment, passage_id = excluded.passage_id, document = excluded.document,
    question = excluded.question
RETURNING document

-- name: answered
SELECT 1 FROM ledger WHERE id = %(answer_id)s AND env = %(env)s AND bu = %(bu)s AND kind = 'answer'

-- name: list
SELECT feedback.answer_id, feedback.bu, feedback.key, feedback.at, feedback.vote, feedback.comment, feedback.passage_id,
       feedback.document, feedback.question, (SELECT text FROM passage WHERE passage.id = feedback.passage_id LIMIT 1) AS excerpt
FROM feedback
WHERE feedback.env = %(env)s AND (%(bu)s::text IS NULL OR feedback.bu = %(bu)s) AND (%(vote)s::text IS NULL OR feedback.vote = %(vote)s)
  AND (%(since)s::timestamptz IS NULL OR feedback.at >= %(since)s)
ORDER BY feedback.at DESC, feedback.answer_id, feedback.key
LIMIT %(limit)s

-- name: counts
SELECT bu, vote, count(*) FROM feedback
WHERE env = %(env)s AND (%(bu)s::text IS NULL OR bu = %(bu)s) AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)
GROUP BY bu, vote

-- name: delete
DELETE FROM feedback WHERE env = %(env)s AND bu = %(bu)s AND answer_id = %(answer_id)s
