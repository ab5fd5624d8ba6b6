-- Administrative units by date: one row for each name, parent or kind a code had, from a day (inclusive) to a day (exclusive).
CREATE TABLE IF NOT EXISTS unit (
    level text NOT NULL CHECK (level IN ('province', 'district', 'ward')),
    code text NOT NULL,
    name text NOT NULL,
    kind text NOT NULL,
    province text,
    district text,
    valid_from date NOT NULL,
    valid_to date,
    PRIMARY KEY (level, code, valid_from)
);
