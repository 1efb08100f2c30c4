// First frames. A page may hold some dozens of players and no more, so a few take turns: each loads a video as far as
// its first picture, paints it into the card, and goes on to the next card that is in sight.

const posters = {
  limit: 3,
  kept: new Map(),
  most: 240,
  queue: [],
  busy: 0,

  want(item, canvas, done) {
    const kept = this.kept.get(film(item) + item.sha256);
    if (kept) return this.paint(kept, canvas, done);
    this.queue.push({ item, canvas, done });
    this.next();
  },

  forget(canvas) {
    this.queue = this.queue.filter((wanted) => wanted.canvas !== canvas);
  },

  next() {
    while (this.busy < this.limit && this.queue.length) {
      const wanted = this.queue.shift();
      if (wanted.canvas.isConnected) this.load(wanted);
    }
  },

  load({ item, canvas, done }) {
    this.busy += 1;
    const video = document.createElement("video");
    video.muted = true;
    video.preload = "auto";
    const patience = setTimeout(() => end(null), 20000);
    const end = async (picture) => {
      clearTimeout(patience);
      video.onloadeddata = video.onseeked = video.onerror = null;
      if (picture) await this.take(video, item, canvas, done);
      else done(false);
      // A player that is let go of at once frees its place for the next.
      video.removeAttribute("src");
      video.load();
      this.busy -= 1;
      this.next();
    };
    video.onerror = () => end(null);
    video.onseeked = () => end(true);
    video.onloadeddata = () => { if (video.currentTime > 0) end(true); };
    video.src = `${film(item)}#t=0.1`;
  },

  async take(video, item, canvas, done) {
    const width = Math.min(video.videoWidth, 640);
    const height = Math.round((width * video.videoHeight) / video.videoWidth);
    try {
      const picture = await createImageBitmap(video, { resizeWidth: width, resizeHeight: height, resizeQuality: "medium" });
      this.keep(film(item) + item.sha256, picture);
      this.paint(picture, canvas, done);
    } catch {
      done(false);
    }
  },

  keep(name, picture) {
    this.kept.set(name, picture);
    if (this.kept.size <= this.most) return;
    const [oldest, dropped] = this.kept.entries().next().value;
    this.kept.delete(oldest);
    dropped.close();
  },

  paint(picture, canvas, done) {
    canvas.width = picture.width;
    canvas.height = picture.height;
    canvas.getContext("2d").drawImage(picture, 0, 0);
    done(true);
  },
};
