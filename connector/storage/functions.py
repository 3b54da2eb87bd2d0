"""PostgreSQL's functions for values out of JSON, as the rules' SQL needs them (see `segments.query.Dialect`).

They say of a jsonb what SQLite says of a value by itself. An instant or a count, which is no jsonb, is asked likewise.
"""

from sqlalchemy import Connection

_SQL = "LANGUAGE sql IMMUTABLE PARALLEL SAFE"

_FUNCTIONS = (
    # null is nothing, and booleans are the numbers 1 and 0
    f"""CREATE OR REPLACE FUNCTION storecue_value(x jsonb) RETURNS jsonb {_SQL} AS $$
    SELECT CASE jsonb_typeof(x) WHEN 'null' THEN NULL
    WHEN 'boolean' THEN CASE WHEN x::boolean THEN '1'::jsonb ELSE '0'::jsonb END ELSE x END $$""",
    f"""CREATE OR REPLACE FUNCTION storecue_kind(x jsonb) RETURNS text {_SQL} AS $$
    SELECT CASE jsonb_typeof(x) WHEN 'string' THEN 'text' ELSE jsonb_typeof(x) END $$""",
    f"""CREATE OR REPLACE FUNCTION storecue_number(x jsonb) RETURNS numeric {_SQL} AS $$
    SELECT CASE jsonb_typeof(x) WHEN 'number' THEN x::numeric END $$""",
    f"CREATE OR REPLACE FUNCTION storecue_number(x bigint) RETURNS numeric {_SQL} AS $$ SELECT x::numeric $$",
    f"""CREATE OR REPLACE FUNCTION storecue_text(x jsonb) RETURNS text {_SQL} AS $$
    SELECT CASE jsonb_typeof(x) WHEN 'string' THEN x #>> '{{}}' END $$""",
    f"CREATE OR REPLACE FUNCTION storecue_text(x bigint) RETURNS text {_SQL} AS $$ SELECT NULL::text $$",
    # A double, half away from zero (PostgreSQL's own round is half to even); beyond 2^52 there are no halves.
    f"""CREATE OR REPLACE FUNCTION storecue_fixed(x jsonb) RETURNS double precision {_SQL} AS $$
    SELECT CASE WHEN abs(y) > 4503599627370496 THEN y ELSE trunc(y + CASE WHEN y < 0 THEN -0.5 ELSE 0.5 END) END
    FROM (SELECT storecue_number(x)::double precision * 10000 AS y) AS scaled $$""",
    r"""CREATE OR REPLACE FUNCTION storecue_instant(x jsonb) RETURNS bigint
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
    DECLARE
      n numeric := storecue_number(x);
      m text[];
    BEGIN
      IF n IS NOT NULL THEN
        RETURN CASE WHEN abs(n) <= 8640000000000000 THEN trunc(n)::bigint END;
      END IF;
      m := regexp_match(storecue_text(x), '^([1-9]\d{3})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])'
        '(?:[T ]([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d)(?:\.(\d{1,3}))?)?(?:Z|([+-])(0\d|1[0-4]):([0-5]\d))?)?$');
      IF m IS NULL THEN
        RETURN NULL;
      END IF;
      RETURN ((make_date(m[1]::int, m[2]::int, 1) - date '1970-01-01') + m[3]::int - 1) * 86400000::bigint
        + coalesce(m[4]::int, 0) * 3600000 + coalesce(m[5]::int, 0) * 60000 + coalesce(m[6]::int, 0) * 1000
        + rpad(coalesce(m[7], ''), 3, '0')::int
        - coalesce((m[9]::int * 60 + m[10]::int) * 60000 * CASE m[8] WHEN '+' THEN 1 ELSE -1 END, 0);
    END $$""",
    f"CREATE OR REPLACE FUNCTION storecue_instant(x bigint) RETURNS bigint {_SQL} AS $$ SELECT x $$",
    f"""CREATE OR REPLACE FUNCTION storecue_items(x jsonb) RETURNS TABLE (key text, value jsonb, type text) {_SQL} AS $$
    SELECT NULL::text, storecue_value(item), storecue_kind(item)
    FROM jsonb_array_elements(CASE jsonb_typeof(x) WHEN 'array' THEN x ELSE '[]' END) AS item $$""",
)


def create_functions(connection: Connection) -> None:
    """Make them, or make them anew; nothing on SQLite."""
    if connection.dialect.name == "postgresql":
        for function in _FUNCTIONS:
            connection.exec_driver_sql(function)
