// Sample for LiteRT on Android. Not compiled for Android here: no Android toolchain on the machines
// that coreml-sd is built on. The README says which files were compiled and run on a desktop JVM.
package coremlsd.sample

import android.app.Activity
import android.graphics.Bitmap
import android.os.Bundle
import android.view.View
import android.widget.Button
import android.widget.CheckBox
import android.widget.EditText
import android.widget.ImageView
import android.widget.LinearLayout
import android.widget.ProgressBar
import android.widget.TextView
import com.google.ai.edge.litert.Environment
import com.google.ai.edge.litert.LiteRtException
import java.io.File
import java.util.concurrent.CancellationException
import java.util.concurrent.Executors

/** One screen: a prompt, a button that draws or stops, the progress, the picture. */
class MainActivity : Activity() {
    private val worker = Executors.newSingleThreadExecutor()
    private var session: Session? = null // only the worker touches it

    @Volatile private var cancelled = false
    private var drawing = false

    private lateinit var prompt: EditText
    private lateinit var float32: CheckBox
    private lateinit var button: Button
    private lateinit var progress: ProgressBar
    private lateinit var status: TextView
    private lateinit var image: ImageView

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        prompt = EditText(this).apply { hint = "What to draw" }
        float32 = CheckBox(this).apply { text = "GPU in 32 bits (slower)" }
        button = Button(this).apply { setOnClickListener { if (drawing) cancelled = true else draw() } }
        progress = ProgressBar(this, null, android.R.attr.progressBarStyleHorizontal)
        status = TextView(this)
        image = ImageView(this).apply { adjustViewBounds = true }
        val column = LinearLayout(this).apply {
            orientation = LinearLayout.VERTICAL
            fitsSystemWindows = true
        }
        for (view in listOf<View>(prompt, float32, button, progress, status, image)) column.addView(view)
        setContentView(column)
        show(false)
    }

    override fun onDestroy() {
        cancelled = true
        worker.execute { session?.close() }
        worker.shutdown()
        super.onDestroy()
    }

    private fun draw() {
        val text = prompt.text.toString()
        val exact = float32.isChecked
        cancelled = false
        status.text = "Loading"
        progress.progress = 0
        show(true)
        worker.execute {
            try {
                val current = sessionFor(exact)
                val facts = current.manifest.facts
                val request = Request(prompt = text, steps = facts.steps, guidance = facts.guidance, seed = System.nanoTime())
                val picture = current.generator.draw(request, onStep = ::tellStep, isCancelled = { cancelled })
                val bitmap = Bitmap.createBitmap(picture.pixels, picture.width, picture.height, Bitmap.Config.ARGB_8888)
                tellEnd(describe(picture, current.manifest.schedulerNote), bitmap)
            } catch (stopped: CancellationException) {
                tellEnd("Stopped", null)
            } catch (error: BundleException) {
                tellEnd(error.message, null)
            } catch (error: OverflowException) {
                tellEnd(error.message, null)
            } catch (error: LiteRtException) {
                tellEnd("LiteRT: ${error.message}", null)
            } catch (error: OutOfMemoryError) {
                tellEnd("Out of memory: use a smaller model or int8 weights", null)
            }
        }
    }

    /** The open bundle; made anew when the precision is another one. Called on the worker. */
    private fun sessionFor(exact: Boolean): Session {
        session?.let { if (it.exact == exact) return it }
        session?.close()
        session = null
        // The app's own folder: readable without a permission, and files there can be mapped.
        val folder = File(getExternalFilesDir(null), "bundle")
        return Session(folder, Environment.create(), exact).also { session = it }
    }

    private fun tellStep(step: Int, steps: Int) = runOnUiThread {
        progress.max = steps
        progress.progress = step
        status.text = "Step $step of $steps"
    }

    private fun tellEnd(message: String?, bitmap: Bitmap?) = runOnUiThread {
        status.text = message
        if (bitmap != null) image.setImageBitmap(bitmap)
        show(false)
    }

    private fun show(busy: Boolean) {
        drawing = busy
        button.text = if (busy) "Stop" else "Draw"
        float32.isEnabled = !busy
    }

    private fun describe(picture: Picture, note: String): String {
        val places = picture.accelerators.entries.joinToString(", ") { "${it.key} on ${it.value}" }
        val cut = if (picture.cut.isEmpty()) "" else "Too long, left out: ${picture.cut}"
        return listOf(places, cut, note).filter { it.isNotEmpty() }.joinToString(". ")
    }
}

/** A bundle with its runtime. */
private class Session(folder: File, private val environment: Environment, val exact: Boolean) {
    val manifest = Manifest.read(folder)
    val generator = Generator(manifest, ClipTokenizer.read(folder, manifest.facts.tokenizer)) {
        LiteRtNetwork.open(it, environment, exact)
    }

    fun close() {
        generator.close()
        environment.close()
    }
}
