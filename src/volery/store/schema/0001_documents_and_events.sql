CREATE TABLE document (
    kind TEXT NOT NULL,
    key  TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (kind, key)
) WITHOUT ROWID;

-- AUTOINCREMENT: a sequence number is never given twice, even after pruning.
CREATE TABLE event (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    service TEXT,
    body    TEXT NOT NULL
);

CREATE INDEX event_of_service ON event (service, seq) WHERE service IS NOT NULL;
