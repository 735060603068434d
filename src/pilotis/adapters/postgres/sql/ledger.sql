-- name: append
INSERT INTO ledger (id, at, env, plane, bu, kind, subject, model, usage, cost_eur, price_book, fx, priced)
VALUES (%(id)s, %(at)s, %(env)s, %(plane)s, %(bu)s, %(kind)s, %(subject)s, %(model)s, %(usage)s, %(cost_eur)s, %(price_book)s, %(fx)s,
        %(priced)s)
ON CONFLICT (id) DO NOTHING

-- name: total
SELECT count(*), coalesce(sum(cost_eur), 0) FROM ledger
WHERE (%(bu)s::text IS NULL OR bu = %(bu)s) AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)
