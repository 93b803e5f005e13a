// SPDX-License-Identifier: Apache-2.0
// NIO: one thread and a selector on either side, and direct buffers.
//   java NioEcho.java serve PORT CONNECTIONS | talk PORT CONNECTIONS MEBIBYTES
// A client sends numbers, shuts its direction down, and expects them all back. The server ends
// when as many connections have ended. Each side then has a blocking exchange, in which a
// reader is woken by a close from another thread.
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.ClosedChannelException;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.file.Files;
import java.nio.file.Path;

public class NioEcho {
  static final int ROOM = 64 << 10;
  static final Path SEEN = Path.of("seen");  // by the test: connections are kept until then

  // What was read and not yet written.
  static class Echo {
    final ByteBuffer held = ByteBuffer.allocateDirect(ROOM);
    boolean isAtEnd = false;

    // True once all is done.
    boolean advance(SelectionKey key) throws IOException {
      SocketChannel channel = (SocketChannel) key.channel();
      if (key.isReadable() && channel.read(held) < 0) isAtEnd = true;
      held.flip();
      channel.write(held);
      held.compact();
      if (isAtEnd && held.position() == 0) return true;
      key.interestOps((held.position() > 0 ? SelectionKey.OP_WRITE : 0)
          | (held.hasRemaining() && !isAtEnd ? SelectionKey.OP_READ : 0));
      return false;
    }
  }

  static class Numbers {
    final ByteBuffer out = ByteBuffer.allocateDirect(ROOM);
    final ByteBuffer in = ByteBuffer.allocateDirect(ROOM);
    final long last;
    long sent = 0;
    long received = 0;

    Numbers(long bytes) {
      last = bytes / 8;
      out.limit(0);
    }

    void write(SelectionKey key) throws IOException {
      SocketChannel channel = (SocketChannel) key.channel();
      if (!out.hasRemaining()) {
        out.clear();
        while (out.hasRemaining() && sent < last) out.putLong(sent++);
        out.flip();
      }
      channel.write(out);
      if (!out.hasRemaining() && sent == last && Files.exists(SEEN)) {
        channel.shutdownOutput();
        key.interestOps(SelectionKey.OP_READ);
      }
    }

    boolean read(SelectionKey key) throws IOException {
      int got = ((SocketChannel) key.channel()).read(in);
      in.flip();
      while (in.remaining() >= 8) {
        if (in.getLong() != received++) throw new IOException("another number came back");
      }
      in.compact();
      if (got < 0 && (received != last || in.position() != 0)) {
        throw new IOException("it ended after " + received);
      }
      return got < 0;
    }
  }

  static void serve(int port, int connections) throws IOException {
    try (Selector selector = Selector.open(); ServerSocketChannel listener = ServerSocketChannel.open()) {
      listener.bind(new InetSocketAddress("127.0.0.1", port));
      listener.configureBlocking(false);
      listener.register(selector, SelectionKey.OP_ACCEPT);
      for (int left = connections; left > 0;) {
        selector.select();
        for (SelectionKey key : selector.selectedKeys()) {
          if (key.isAcceptable()) {
            SocketChannel accepted = listener.accept();
            if (accepted == null) continue;
            accepted.configureBlocking(false);
            accepted.register(selector, SelectionKey.OP_READ, new Echo());
          } else if (((Echo) key.attachment()).advance(key)) {
            key.channel().close();
            --left;
          }
        }
        selector.selectedKeys().clear();
      }
      listener.configureBlocking(false);
      for (SelectionKey key : selector.keys()) key.cancel();
      selector.selectNow();
      listener.configureBlocking(true);
      echoUntilClosed(listener.accept());
    }
  }

  static void echoUntilClosed(SocketChannel channel) throws IOException {
    ByteBuffer held = ByteBuffer.allocate(4096);
    while (channel.read(held) >= 0) {
      held.flip();
      while (held.hasRemaining()) channel.write(held);
      held.clear();
    }
    channel.close();
  }

  static void talk(int port, int connections, long mebibytes) throws Exception {
    try (Selector selector = Selector.open()) {
      for (int i = 0; i < connections; ++i) {
        SocketChannel channel = SocketChannel.open();
        channel.configureBlocking(false);
        channel.connect(new InetSocketAddress("127.0.0.1", port));
        channel.register(selector, SelectionKey.OP_CONNECT, new Numbers(mebibytes << 20));
      }
      for (int left = connections; left > 0;) {
        selector.select();
        for (SelectionKey key : selector.selectedKeys()) {
          Numbers numbers = (Numbers) key.attachment();
          if (key.isConnectable() && ((SocketChannel) key.channel()).finishConnect()) {
            key.interestOps(SelectionKey.OP_READ | SelectionKey.OP_WRITE);
          } else if (key.isReadable() && numbers.read(key)) {
            key.channel().close();
            --left;
          } else if (key.isValid() && key.isWritable()) {
            numbers.write(key);
          }
        }
        selector.selectedKeys().clear();
      }
    }
    closeUnderReader(port);
    System.out.println("bytes " + connections * (mebibytes << 20));
  }

  static boolean isInSystemCall(Thread thread) {
    StackTraceElement[] frames = thread.getStackTrace();
    return frames.length > 0 && frames[0].isNativeMethod();
  }

  static void closeUnderReader(int port) throws Exception {
    SocketChannel channel = SocketChannel.open(new InetSocketAddress("127.0.0.1", port));
    ByteBuffer one = ByteBuffer.allocate(1);
    for (int i = 0; i < 1000; ++i) {
      one.clear().put((byte) i).flip();
      channel.write(one);
      one.clear();
      if (channel.read(one) != 1 || one.get(0) != (byte) i) throw new IOException("another byte");
    }
    Throwable[] thrown = new Throwable[1];
    Thread reader = new Thread(() -> {
      try {
        channel.read(ByteBuffer.allocate(1));
      } catch (Throwable error) {
        thrown[0] = error;
      }
    });
    reader.start();
    while (!isInSystemCall(reader)) Thread.onSpinWait();
    channel.close();
    reader.join();
    if (!(thrown[0] instanceof ClosedChannelException)) {
      throw new IOException("a reader survived the close: " + thrown[0]);
    }
  }

  public static void main(String[] words) throws Exception {
    int port = Integer.parseInt(words[1]);
    int connections = Integer.parseInt(words[2]);
    if (words[0].equals("serve")) serve(port, connections);
    else talk(port, connections, Long.parseLong(words[3]));
  }
}
