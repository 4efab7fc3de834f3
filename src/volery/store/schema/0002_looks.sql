-- Every look at the evidence of a rollout, so that its decisions can be replayed.
CREATE TABLE look (
    rollout TEXT NOT NULL,
    number  INTEGER NOT NULL,
    body    TEXT NOT NULL,
    PRIMARY KEY (rollout, number)
) WITHOUT ROWID;
