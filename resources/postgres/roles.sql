-- For the administrator of the database. Run it again whenever it changes; give the roles their passwords (\password).
DO $$ BEGIN CREATE ROLE {owner} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
DO $$ BEGIN CREATE ROLE {service} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
DO $$ BEGIN CREATE ROLE {reader} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {owner}, {service}, {reader};

-- What each of them sees, also through a pooler and in psql
ALTER ROLE {owner} IN DATABASE {database} SET search_path = {schema};
ALTER ROLE {service} IN DATABASE {database} SET search_path = {schema};
ALTER ROLE {reader} IN DATABASE {database} SET search_path = {schema};
ALTER ROLE {owner} IN DATABASE {database} SET timezone = 'UTC';
ALTER ROLE {service} IN DATABASE {database} SET timezone = 'UTC';
ALTER ROLE {reader} IN DATABASE {database} SET timezone = 'UTC';

-- The owner makes tables and partitions in these two schemas, and nothing elsewhere
{own_schema}
CREATE SCHEMA IF NOT EXISTS {dagster};
ALTER SCHEMA {dagster} OWNER TO {owner};

-- The θ API and the dashboard change rows and no tables; people read
GRANT USAGE ON SCHEMA {schema}, {dagster} TO {service};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema}, {dagster} TO {service};
GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema}, {dagster} TO {service};
GRANT USAGE ON SCHEMA {schema} TO {reader};
GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {reader};

-- The same for tables and partitions to come
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema}, {dagster}
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {service};
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema}, {dagster} GRANT USAGE ON SEQUENCES TO {service};
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT SELECT ON TABLES TO {reader};
