// What a Java program does with JDBC, through pgpool at the address that is its argument: prepared statements that the driver keeps on
// the server, batches, a cursor, errors, and a cancelled query, on more connections than the pool has.

import java.sql.*;
import java.util.*;

public class Jdbc {
    public static void main(String[] arguments) throws Exception {
        String url = "jdbc:postgresql://" + arguments[0] + "/shop?user=trusted&prepareThreshold=2";
        List<Connection> connections = new ArrayList<>();
        for (int i = 0; i < 4; i++) {
            connections.add(DriverManager.getConnection(url));
        }
        for (int round = 0; round < 8; round++) {
            for (int i = 0; i < connections.size(); i++) {
                prepared(connections.get(i), round * 10 + i);
            }
        }
        for (Connection connection : connections) {
            transaction(connection);
            error(connection);
        }
        cancelled(connections.get(0));
        for (Connection connection : connections) {
            prepared(connection, 7);
            connection.close();
        }
        System.out.println("fine");
    }

    static void prepared(Connection connection, int number) throws Exception {
        String sql = number % 2 == 0 ? "select ?::int + 1" : "select ?::int + 1 as more";
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int i = 0; i < 4; i++) {
                statement.setInt(1, number + i);
                ResultSet rows = statement.executeQuery();
                rows.next();
                check(rows.getInt(1) == number + i + 1, "a sum");
            }
        }
    }

    static void transaction(Connection connection) throws Exception {
        connection.setAutoCommit(false);
        try (Statement statement = connection.createStatement()) {
            statement.execute("create temp table numbers (i int) on commit drop");
            try (PreparedStatement insert = connection.prepareStatement("insert into numbers values (?)")) {
                for (int i = 0; i < 500; i++) {
                    insert.setInt(1, i);
                    insert.addBatch();
                }
                check(insert.executeBatch().length == 500, "a batch");
            }
            statement.setFetchSize(50);
            ResultSet rows = statement.executeQuery("select i from numbers order by i");
            int count = 0;
            while (rows.next()) {
                check(rows.getInt(1) == count++, "rows in order");
            }
            check(count == 500, "all rows");
        }
        connection.commit();
        connection.setAutoCommit(true);
    }

    static void error(Connection connection) throws Exception {
        try (Statement statement = connection.createStatement()) {
            statement.execute("select 1 / 0");
            throw new Exception("1 / 0 is something");
        } catch (SQLException error) {
            check(error.getSQLState().equals("22012"), "division by zero: " + error);
        }
    }

    static void cancelled(Connection connection) throws Exception {
        try (Statement statement = connection.createStatement()) {
            statement.setQueryTimeout(1);
            statement.execute("select pg_sleep(60)");
            throw new Exception("it has slept");
        } catch (SQLException error) {
            check(error.getSQLState().equals("57014"), "cancelled: " + error);
        }
    }

    static void check(boolean holds, String what) throws Exception {
        if (!holds) {
            throw new Exception(what);
        }
    }
}
